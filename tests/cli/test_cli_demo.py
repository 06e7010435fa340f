"""`mvmsr demo` goes all the way, from pictures to a report."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mvmsr import config
from mvmsr.cli import app, demo
from mvmsr.data import image_size, read_rgb
from mvmsr.engine.check import check
from mvmsr.engine.stop import Stopped
from mvmsr.inference.upscaler import Upscaler
from mvmsr.inference.weights import default_model


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers  # the command's own write to a console that is gone
    root.setLevel(level)


def test_its_pictures_come_with_scikit_image(tmp_path: Path) -> None:
    demo._copy_pictures(tmp_path)
    for folder, names in (("train", demo.TRAIN), ("held-out", demo.HELD_OUT)):
        for name in names:
            height, width = image_size(tmp_path / "data" / folder / name)
            assert min(height, width) >= 96, name
    assert not set(demo.TRAIN) & set(demo.HELD_OUT)


def test_its_options_are_valid() -> None:
    options = config.load(Path(demo.__file__).with_name("demo_options.yml"))
    check(options)
    assert {"pair", "manifold", "triplet"} <= set(options.train.terms)
    told = CliRunner().invoke(app, ["demo", "--help"], env={"COLUMNS": "300"}).output
    assert f"default: ({options.train.total_iter})" in told


def test_a_file_where_its_folder_should_be_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = CliRunner().invoke(app, ["demo", "-o", str(out)], env={"COLUMNS": "300"})
        assert result.exit_code == 2
        assert "is not a folder" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("_restored_logging")
def test_ctrl_c_while_it_trains_ends_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object, **named: object) -> None:
        raise Stopped(signal.SIGINT, 3)

    monkeypatch.setattr("mvmsr.engine.loop.train", stopped)
    monkeypatch.setattr(demo, "_upscale", lambda out, console: out)
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "demo")])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 130
    assert "the same command starts over" in result.output


@pytest.mark.slow
@pytest.mark.usefixtures("_restored_logging")
def test_it_upscales_with_the_built_in_model_trains_benchmarks_and_reports(tmp_path: Path) -> None:
    out = tmp_path / "demo[1]"  # no markup of the terminal's
    command = ["demo", "--iterations", "4", "-o", str(out)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for said in ("1 of 4", "4 of 4", str(out / "report.html"), "What to do next"):
        assert said in result.output.replace("\n", "")

    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [mean["method"] for mean in results["means"]] == ["bicubic", "MvM (demo)"]
    assert all(mean["images"] == len(demo.HELD_OUT) and mean["psnr"] > 3 for mean in results["means"])

    source, target = out / "data" / "held-out" / "chelsea.png", out / "upscaled" / "chelsea_x4.png"
    height, width = image_size(source)
    assert image_size(target) == (4 * height, 4 * width)
    assert (read_rgb(target) == Upscaler(default_model()).upscale_array(read_rgb(source))).all()

    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "MvM (demo)" in page
    records = (out / "experiments" / "demo" / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    assert max(json.loads(record)["iter"] for record in records) == 4
