"""Which pictures the inputs of `mvmsr upscale` mean, and where the results go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mvmsr.cli import app, upscale
from mvmsr.cli.plain_text import plain
from mvmsr.cli.upscale_plan import Format, make_plan
from mvmsr.data import image_writing
from mvmsr.data.image_io import read_rgb
from mvmsr.inference import upscaler


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `in/a.png` and `in/b.png` of 4 x 5 pixels."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.new("RGB", (5, 4)).save(tmp_path / "in" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["upscale", "--model", "bicubic", *arguments], env={"COLUMNS": "400"})


def test_one_picture_is_written_to_the_file_that_is_named() -> None:
    assert _run("in/a.png", "-o", "new/big.tif").exit_code == 0
    assert read_rgb("new/big.tif").shape == (16, 20, 3)
    again = _run("in/a.png", "-o", "new/big.tif")
    assert again.exit_code == 1
    assert "--overwrite replaces it" in again.output
    assert "would replace an input" in _run("in/a.png", "-o", "in/a.png", "--overwrite").output


def test_a_folder_may_be_called_as_a_picture() -> None:
    Path("out.png").mkdir()
    assert _run("in", "-o", "out.png").exit_code == 0
    assert sorted(path.name for path in Path("out.png").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "-o", "big.png"], "big.png is one file, and the inputs are several images; name a folder"),
        (["in/absent.png", "in/a.png", "-o", "big.png"], "name a folder"),
        (["in/a.png", "-o", "big.heic"], "ends in .heic, which is not written"),
        (["in/a.png", "-o", "big.png", "--suffix", "_x4"], "names the result in full"),
        (["in/a.png", "-o", "big.png", "--format", "jpg"], "names the result in full"),
        (["in/a.png", ""], "an input is empty"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(arguments: list[str], message: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    result = _run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert sorted(folder.rglob("*")) == before


def test_pictures_that_are_not_read_are_counted() -> None:
    for name in ("c.HEIC", "d.heic", "e.jp2", ".hidden.heic", "notes.txt"):
        Path("in", name).write_bytes(b"")
    result = _run("in")
    assert result.exit_code == 0
    assert "skipped 2 .heic, 1 .jp2: these formats are not taken from folders" in result.output
    assert ".txt" not in result.output
    named = make_plan(["in/d.heic"], Path("out"), Format.keep, "", recursive=False)  # by name, its content decides
    assert [(str(job.src), str(job.dst)) for job in named.jobs] == [("in/d.heic", "out/d.png")]


@pytest.mark.parametrize("inputs", ["in/*.heic", "only"])
def test_a_request_for_nothing_but_such_pictures_fails(inputs: str) -> None:
    for file in (Path("in/c.heic"), Path("only/c.heic")):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    result = _run(inputs)
    assert result.exit_code == 1
    assert f"{inputs}: no images of the formats that are read" in result.output
    assert "skipped 1 .heic" in result.output


def test_a_folder_that_may_not_be_written_to_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaler.os, "access", lambda *_: False)  # as root, rights do not hold
    monkeypatch.setattr(upscaler.Upscaler, "upscale", lambda *_: pytest.fail("the work was begun"))
    result = _run("in/a.png", "-o", "new/folder")
    assert result.exit_code == 1
    assert "cannot be written (no rights to" in result.output


def test_a_pipe_is_no_picture() -> None:
    os.mkfifo("pipe.png")
    result = _run("pipe.png")
    assert result.exit_code == 1
    assert "pipe.png: is neither a file nor a folder (pipes are not read)" in result.output


def test_ctrl_c_tells_what_is_done_and_leaves_nothing_half(monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = image_writing.os.replace, []

    def interrupted(src: Path, dst: Path) -> None:
        calls.append(dst)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(src, dst)

    monkeypatch.setattr(image_writing.os, "replace", interrupted)
    result = _run("in", "-o", "out")
    assert result.exit_code == 130
    assert "1 of 2 done, in out" in result.output
    assert "no partial image is left; the same command with --skip-done resumes" in result.output
    assert [path.name for path in Path("out").iterdir()] == ["a.png"]
    monkeypatch.undo()


def test_ctrl_c_while_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(upscale, "_upscaler", interrupted)
    result = _run("in", "-o", "out")
    assert result.exit_code == 130
    assert "0 of 2 done" in result.output


def test_names_are_shown_as_they_are() -> None:
    name = "[red]x[0] :cat: \x1b[2J.png"
    Path(name).write_bytes(np.random.default_rng(0).bytes(20))
    result = _run(name)
    assert result.exit_code == 1
    assert "not done [red]x[0] :cat: \\x1b[2J.png: is not an image" in result.output
    assert plain("lines\nstay") == "lines\nstay"


def test_a_link_under_another_name_is_an_input_of_its_own() -> None:
    Path("in/z.png").symlink_to("a.png")
    plan = make_plan(["in", "in/a.png", "./in/a.png"], Path("out"), Format.keep, "", False)
    assert sorted(str(job.dst) for job in plan.jobs) == ["out/a.png", "out/b.png", "out/z.png"]
    assert not plan.failures


def test_a_link_to_nothing_is_named() -> None:
    Path("in/dead.png").symlink_to("gone.png")
    for inputs, done in (("in", "2 of 3 done"), ("in/*.png", "2 of 3 done"), ("in/dead.png", "0 of 1 done")):
        result = _run(inputs, "-o", "out", "--overwrite")
        assert result.exit_code == 1
        assert "in/dead.png: is a link to gone.png, which does not exist" in result.output
        assert done in result.output
