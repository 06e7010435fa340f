"""Which command an options file is for: a wrong one is told so in one line, not key by key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OF_BENCHMARKS = ("methods", "sets", "metrics", "protocol")


def command_of(values: Mapping[str, Any]) -> str | None:
    """`train`, `train-nmd` or `test`, as far as the keys tell; None where they do not.

    BasicSR's files have `model_type` beside, and those of its tests no section `train`.

    >>> command_of({"sets": ["Set5"], "scale": 4})
    'test'
    """
    if values.get("task") == "nmd":
        return "train-nmd"
    if "train" in values and "network_g" in values:
        return "train"
    of_tests = "model_type" in values or any(key in values for key in _OF_BENCHMARKS)
    return "test" if of_tests and "train" not in values else None


def other_command(values: Mapping[str, Any], command: str, path: Path) -> str | None:
    """What is said of a file that is another command's; None where it may be `command`'s own."""
    found = command_of(values)
    if found in (None, command):
        return None
    return f"these are options of `mvmsr {found}`, not of `mvmsr {command}`; use `mvmsr {found} -opt {path}`"
