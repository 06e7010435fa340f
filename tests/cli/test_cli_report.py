from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mvmsr.cli import report


def _run(*arguments: object) -> Any:
    app = typer.Typer()
    app.command("report")(report.command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    root = tmp_path / "experiments" / "small"
    root.mkdir(parents=True)
    (root / "options.yml").write_text("name: small\nnetwork_g: {type: SRResNet}\n")
    (root / "stats.jsonl").write_text(json.dumps({"iter": 10, "val/Set5/psnr": 27.125}) + "\n")
    return root


def test_the_page_is_written_into_the_run_and_named(run_dir: Path) -> None:
    result = _run(run_dir)
    assert result.exit_code == 0, result.output
    page = run_dir / "report.html"
    assert f"wrote {page}" in result.output
    assert "27.1" in page.read_text(encoding="utf-8")


def test_a_name_alone_is_a_run_below_experiments(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run("small")
    assert result.exit_code == 0, result.output
    assert (run_dir / "report.html").is_file()


def test_several_runs_and_results_go_into_one_page(run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "options.yml").write_text("name: second\n")
    out = tmp_path / "page.html"
    result = _run(run_dir, other, "-o", out)
    assert result.exit_code == 0, result.output
    assert "small, second" in out.read_text(encoding="utf-8")
    assert not (run_dir / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone does not exist"),
        (["small", "gone"], "gone does not exist"),
        (["small", "--results", "none.json"], "none.json cannot be read as results"),
        (["small", "-o", "small/options.yml/page.html"], "options.yml"),
    ],
)
def test_what_is_not_there_is_an_error_without_a_traceback(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(run_dir.parent)
    result = _run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert isinstance(result.exception, SystemExit)
    assert not (run_dir / "report.html").exists()


def test_a_page_that_cannot_be_written_is_named(run_dir: Path, tmp_path: Path) -> None:
    result = _run(run_dir, "-o", tmp_path)
    assert result.exit_code == 2
    assert "is a directory" in result.output
    (tmp_path / "taken").write_text("")
    result = _run(run_dir, "-o", tmp_path / "taken" / "page.html")
    assert result.exit_code == 1
    assert f"{tmp_path / 'taken'} is a file; name another folder" in result.output
    assert "Errno" not in result.output


def test_the_command_is_imported_without_what_is_heavy() -> None:
    heavy = "{'torch', 'matplotlib', 'jinja2', 'PIL', 'yaml'}"
    code = f"import sys, mvmsr.cli.report, mvmsr.cli.doctor; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
