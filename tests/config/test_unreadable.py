"""Options files that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mvmsr.cli import app
from mvmsr.config import OptionsError, load


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a file of one's own, and a clone's options."""
    for name in ("mine.yml", "notes.txt", "options/train/mvm_rdn_x4.yml", "options/test/benchmark_x4.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("name: x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("min.yml", "min.yml: there is no such options file. Did you mean mine.yml?"),
        ("options/train/mvm_rdn.yml", "there is no such options file. Did you mean options/train/mvm_rdn_x4.yml?"),
        ("options/trian/MvM_RDN_x4.yml", "there is no such options file. Did you mean options/train/mvm_rdn_x4.yml?"),
        ("mvm_rdn_x4", "there is no such options file. Did you mean options/train/mvm_rdn_x4.yml?"),
        ("zzz.yml", "zzz.yml: there is no such options file."),
        ("notes.txt/a.yml", "notes.txt/a.yml: there is no such options file."),
        ("options/train", "this is a folder; name an options file, such as options/train/mvm_rdn_x4.yml"),
        ("empty", "empty: this is a folder; name an options file"),
    ],
)
def test_what_is_said(path: str, message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        load(path)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(("command", "status"), [("train", 1), ("train-nmd", 1), ("test", 2)])
def test_every_command_says_so(command: str, status: int) -> None:
    result = CliRunner().invoke(app, [command, "-opt", "benchmark_x.yml"])
    assert result.exit_code == status
    assert "Did you mean options/test/benchmark_x4.yml?" in " ".join(result.output.split())
    assert "Errno" not in result.output
