"""How benchmarks keep their figures, and the name of the processor beside them."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mvmsr.hardware import processor_name


def test_figures_come_with_date_versions_and_processor(
    load_program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    file = tmp_path / "new" / "folder" / "figures.json"
    load_program("benchmarks/figures.py").write_figures(file, {"seconds": 1.5})
    document = json.loads(file.read_text())
    assert list(document) == ["date", "seconds", "versions", "machine"]
    assert document["seconds"] == 1.5
    assert document["machine"]["processor"] == processor_name() != ""


def test_the_processor_is_named_as_linux_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor\t: 0\nmodel name\t: Made CPU: 3\n")
    assert processor_name() == "Made CPU: 3"


def test_a_system_without_cpuinfo_names_its_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor_name() == platform.machine()
