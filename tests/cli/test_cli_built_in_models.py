"""From a run's weights to a built-in model with a card, by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mvmsr.archs import Compact
from mvmsr.cli import app
from mvmsr.inference import save_weights
from mvmsr.inference.weights import builtin_names

ARGS = {"num_feat": 8, "num_conv": 2}


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("mvmsr.inference.weights.BUILTIN_DIR", tmp_path / "models")
    torch.manual_seed(0)
    state, extra = Compact(**ARGS).state_dict(), {"iterations": "7"}
    save_weights(tmp_path / "run" / "weights" / "g.safetensors", state, "Compact", ARGS, 4, extra)
    return tmp_path


def _export(folder: Path, name: str, card: str) -> Any:
    (folder / "card.yml").write_text(card)
    target = folder / "models" / f"{name}.safetensors"
    return _run("export", folder / "run", "--to", "safetensors", "--half", "--card", folder / "card.yml", "-o", target)


def test_a_run_becomes_a_built_in_model(folder: Path) -> None:
    assert "no built-in models" in _run("models", "list").output
    exported = _export(folder, "fast", "title: quick [x4]\ngood_for: photographs [x4]\ndefault: yes\n")
    assert exported.exit_code == 0, exported.output
    listed = _run("models", "list")
    assert listed.exit_code == 0
    assert "fast" in listed.output
    assert "photographs [x4] (the default)" in listed.output
    told = _run("models", "info", "fast").output
    for text in ("quick [x4]", "photographs", "Compact", "iterations", "num_conv=2", "x4"):
        assert text in told


def test_a_card_with_a_mistake_is_refused(folder: Path) -> None:
    exported = _export(folder, "fast", "goodfor: photographs\n")
    assert exported.exit_code == 1
    assert "Did you mean 'good_for'" in exported.output
    assert not (folder / "models").exists()


def test_a_broken_built_in_file_is_named_and_the_others_are_listed(folder: Path) -> None:
    assert _export(folder, "fast", "title: quick\n").exit_code == 0
    (folder / "models" / "bad.safetensors").write_bytes(b"cut")
    listed = _run("models", "list")
    assert listed.exit_code == 1
    assert "quick" in listed.output
    assert "bad.safetensors: cannot be read" in listed.output


def test_the_help_of_upscale_names_the_models_that_there_are() -> None:
    told = _run("upscale", "--help").output
    for name in builtin_names():
        assert f"{name}: " in told
