"""How the programs here keep what they measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mvmsr.benchmark.results import machine, versions_and_commit


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write them as JSON, with the date, the versions and the machine (its CPU); folders that are missing are made."""
    about = {"versions": versions_and_commit(), "machine": machine("cpu")}
    document = {"date": time.strftime("%Y-%m-%d"), **figures, **about}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
