"""How the programs here keep what they measured."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mvmsr.benchmark.results import machine, versions
from mvmsr.hardware import processor_name


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """Write them as JSON, with the date, the versions and the machine (its CPU); folders that are missing are made."""
    measured_on = {**machine("cpu"), "processor": processor_name()}
    document = {"date": time.strftime("%Y-%m-%d"), **figures, "versions": versions(), "machine": measured_on}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
