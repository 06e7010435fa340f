"""How the programs here keep what they measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mvmsr.benchmark.results import machine, versions


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write them as JSON, with the date, the versions and the machine (its CPU); folders that are missing are made."""
    document = {"date": time.strftime("%Y-%m-%d"), **figures, "versions": versions(), "machine": machine("cpu")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
