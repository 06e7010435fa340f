"""`mvmsr train` from the command line: messages, exit statuses, and what lies on the disk afterwards."""

from __future__ import annotations

import json
import logging
import os
import runpy
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from typer.testing import CliRunner

from mvmsr.cli import app
from mvmsr.data import write_rgb

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = """\
name: tiny
scale: 4
device: cpu
precision: 32
compile: false
datasets:
  train: {dataroot_gt: pictures, cache_dir: cache, gt_size: 32, batch_size_per_gpu: 2}
  val: {name: made, dataroot_gt: pictures}
network_g: {type: SRResNet, num_feat: 8, num_block: 1, bn: false}
network_m: {type: MetricNet, num_feat: 4, num_layer: 3, embedding_dim: 4}
train:
  total_iter: 4
  optim_g: {type: Adam, lr: 1e-3}
  pixel_opt: {type: L1Loss}
  manifold_opt: {type: ManifoldMatchingLoss, loss_weight: 1e-3}
  triplet_opt: {type: DirectedTripletLoss}
val: {val_freq: 4, metrics: [psnr], samples: 0}
logger: {print_freq: 1, save_checkpoint_freq: 2, use_tb_logger: false}
"""


without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has it")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: `tiny.yml` and three pictures."""
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        write_rgb(tmp_path / "pictures" / f"{number}.png", picture)
    (tmp_path / "tiny.yml").write_text(OPTIONS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MVMSR_DATA_ROOT", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:] = handlers  # the command's own write to a console that is gone
    root.setLevel(level)


def _train(*arguments: object) -> Result:
    command = ["train", "-opt", "tiny.yml", *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "300"}, catch_exceptions=False)


def _records(folder: Path, run: str = "tiny") -> list[dict[str, Any]]:
    lines = (folder / "experiments" / run / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("scale: 4", "scael: 4", "tiny.yml:2: scael: "),
        (
            "num_block: 1",
            "num_blok: 1",
            "tiny.yml:9: network_g.num_blok: is unknown to SRResNet. Did you mean 'num_blo",
        ),
        ("total_iter: 4", "total_iter: four", "tiny.yml:12: train.total_iter: "),
        (
            "type: L1Loss",
            "type: L1Los",
            "tiny.yml:14: train.pixel_opt.type: unknown loss 'L1Los'. Did you mean 'L1Loss'",
        ),
        ("  val: {name: made", "  val: {name: [made", "tiny.yml:8"),
        ("lr: 1e-3", "lr: -1", "tiny.yml:13: train.optim_g.lr: "),
        ("metrics: [psnr]", "metrics: [pnsr]", "tiny.yml:17: val.metrics"),
    ],
)
def test_bad_options_are_refused_by_line(folder: Path, written: str, instead: str, message: str) -> None:
    assert written in OPTIONS
    (folder / "tiny.yml").write_text(OPTIONS.replace(written, instead), encoding="utf-8")
    result = _train()
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (folder / "experiments").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *(
            (
                f"datasets.train.{value}",
                "--set datasets.train.gt_size: gt_size must be a",
            )
            for value in ("gt_size=30", "gt_size=0", "gt_size=-4")
        ),
        ("datasets.train.dataroot_gt=[]", "datasets.train.dataroot_gt: dataroot_gt names no folder"),
        ("datasets.train.filename_tmpl=abc", "datasets.train.filename_tmpl: filename_tmpl must contain {} once"),
        ("datasets.train.filename_tmpl='{}_{}'", "datasets.train.filename_tmpl: filename_tmpl must contain {} once"),
        ("datasets.train.filename_tmpl='{}{x}'", "datasets.train.filename_tmpl: filename_tmpl must contain {} once"),
        ("datasets.train.dataroot_lq=other", "datasets.train.dataroot_gt: images of "),
        ("datasets.train.dataroot_gt=empty", "datasets.train.dataroot_gt: "),
        (
            "datasets.train.dataroot_gt=torn",
            "--set datasets.train.dataroot_gt: 1 image can",
        ),
        (
            "datasets.train.dataroot_lq=small",
            "--set datasets.train.dataroot_lq: 3 images can",
        ),
        ("datasets.train.gt_size=64", "--set datasets.train.gt_size: 3 images cannot be used"),
        ("datasets.train.batch_size_per_gpu=1", "datasets.train.batch_size_per_gpu: 1 image is too few for train."),
        ("device=gpu", "device: device 'gpu' is unknown; use one of auto, cuda, mps, cpu"),
        pytest.param("device=cuda", "device: device 'cuda' was asked for", marks=without_gpu),
        ("precision=16-mixed", "precision: precision '16-mixed' needs a GPU"),
        ("network_g={type: spandrel, path: gone.pth}", "no weights file at gone.pth"),
        ("network_m.num_layer=6", "MetricNet needs images of at least 64x64, got 32x32"),
        ("network_m.input_size=64", "MetricNet was built for images of 64x64, got 32x32"),
        ("path.experiments_root=tiny.yml", "tiny.yml"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "train"])
def test_what_does_not_fit_is_refused_before_a_folder_is_made(
    folder: Path, override: str, message: str, dry: list[str]
) -> None:
    (folder / "empty").mkdir()
    (folder / "torn").mkdir()
    (folder / "torn" / "a.png").write_bytes(b"no picture")
    for number in range(3):
        write_rgb(folder / "small" / f"{number}.png", np.zeros((9, 9, 3), np.uint8))
    write_rgb(folder / "other" / "9.png", np.zeros((12, 12, 3), np.uint8))
    result = CliRunner().invoke(app, ["train", "-opt", "tiny.yml", *dry, "--set", override], env={"COLUMNS": "300"})
    assert isinstance(result.exception, SystemExit), f"a traceback: {result.exception!r}"
    assert result.exit_code == 1
    assert message in result.output
    assert not (folder / "experiments").exists()


def test_missing_pictures_are_refused_before_a_folder_is_made(folder: Path) -> None:
    said = "--set datasets.train.dataroot_gt: no data at 'nowhere'"
    result = _train("--set", "datasets.train.dataroot_gt=nowhere")
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (folder / "experiments").exists()
    result = _train("--dry-run", "--set", "datasets.train.dataroot_gt=nowhere")
    assert result.exit_code == 0, "a run may be planned where its data is not"
    assert said in result.output
    assert "Options are valid; the data named above is not here." in result.output


def test_a_file_that_is_not_there(folder: Path) -> None:
    (folder / "tiny.yml").unlink()
    result = _train()
    assert result.exit_code == 1
    assert "tiny.yml" in result.output
    assert "Traceback" not in result.output


def test_a_dry_run_shows_sizes_and_cost_and_leaves_nothing(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    result = _train("--dry-run")
    assert result.exit_code == 0, result.output
    assert "Options are valid." in result.output
    rows = {line.split()[1]: line for line in result.output.splitlines() if "SRResNet" in line or "MetricNet" in line}
    first, block, body = 9 * 9 * 3 * 8 + 8 + 1, 2 * (9 * 8 * 8 + 8) + 1, 9 * 8 * 8 + 8
    up, last = 2 * (9 * 8 * 32 + 32 + 1), 9 * 9 * 8 * 3 + 3
    assert f"{first + block + body + up + last:,}" in rows["generator"]
    assert "metric_net" in rows
    assert "s per iteration on this machine" in result.output
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "train"])
def test_a_schedule_of_a_longer_run_is_told(folder: Path, dry: list[str]) -> None:
    result = _train(*dry, "--set", "train.scheduler={type: MultiStepLR, milestones: [3, 400]}")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "train.scheduler.milestones: 400 lies beyond total_iter 4" in said


def test_a_dry_run_names_pictures_that_training_would_refuse(folder: Path) -> None:
    result = _train("--dry-run", "--set", "datasets.train.gt_size=64", "--set", "train.total_iter=1")
    assert result.exit_code == 1, result.output
    assert "48x48" in result.output
    assert "smaller than gt_size 64" in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert "missing" in _train("--dry-run", "--set", "datasets.train.dataroot_gt=missing").output


def test_a_run_leaves_its_folder_and_says_where(folder: Path) -> None:
    result = _train()
    assert result.exit_code == 0, result.output
    run = folder / "experiments" / "tiny"
    assert f"Run: {Path('experiments/tiny')}" in result.output
    assert "mvmsr report experiments/tiny" in result.output
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"00000002", "00000004"}
    assert list((run / "weights").glob("tiny_g_*.safetensors"))
    records = _records(folder)
    assert max(record["iter"] for record in records) == 4
    assert any("val/made/psnr" in record for record in records)
    assert all(record["loss_g/pixel"] > 0 for record in records if "loss_g/pixel" in record)
    assert yaml.safe_load((run / "options.yml").read_text(encoding="utf-8"))["train"]["total_iter"] == 4


def test_square_brackets_in_paths_are_shown_as_they_are(folder: Path) -> None:
    result = _train("--set", "path.experiments_root=runs[1]", "train.total_iter=1")
    assert result.exit_code == 0, result.output
    assert "Run: runs[1]/tiny" in result.output
    assert "mvmsr report 'runs[1]/tiny'" in result.output  # as a shell needs it
    assert "'no[red]where'" in _train("--dry-run", "--set", "datasets.train.dataroot_gt=no[red]where").output


def test_the_command_for_the_report_can_be_pasted(folder: Path) -> None:
    result = _train("--set", "path.experiments_root=my runs", "train.total_iter=1")
    command = next(line for line in result.output.splitlines() if line.startswith("Report: "))
    assert shlex.split(command) == ["Report:", "mvmsr", "report", "my runs/tiny"]


def test_pictures_of_ones_own_below_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "pictures" / "IMG_1.HEIC").write_bytes(b"")
    (folder / "pictures" / "album").mkdir()
    result = _train("--set", "datasets.train.dataroot_gt=~/pictures", "train.total_iter=1")
    assert result.exit_code == 0, result.output
    assert "skipped 1 .heic, 1 folder" in " ".join(result.output.split())


def test_several_overrides_after_one_flag(folder: Path) -> None:
    result = _train("--set", "train.total_iter=x", "network_g.num_block=y", "--dry-run")
    assert "--set train.total_iter: " in result.output
    assert "unexpected extra argument" not in result.output
    result = _train("--set=name=a", "val.val_freq=z", "--dry-run")
    assert "--set val.val_freq: " in result.output


def test_a_second_start_says_how_to_go_on_and_touches_nothing(folder: Path) -> None:
    assert _train("--set", "train.total_iter=2").exit_code == 0
    stats = folder / "experiments" / "tiny" / "stats.jsonl"
    before = stats.read_bytes()
    result = _train()
    assert result.exit_code == 1
    assert "--auto-resume continues it" in result.output
    assert "Traceback" not in result.output
    assert stats.read_bytes() == before


def test_a_finished_part_is_continued(folder: Path) -> None:
    assert _train("--set", "train.total_iter=2").exit_code == 0
    result = _train("--auto-resume")
    assert result.exit_code == 0, result.output
    iterations = [record["iter"] for record in _records(folder) if "loss_g/pixel" in record]
    assert iterations == [1, 2, 3, 4]


def test_auto_resume_begins_where_there_is_nothing(folder: Path) -> None:
    result = _train("--auto-resume", "--set", "train.total_iter=1")
    assert result.exit_code == 0, result.output
    assert _records(folder)[-1]["iter"] == 1


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.optim_g.lr=2e-4", "train", "optim_g", {"type": "Adam", "lr": 2e-4}),
        ("train.total_iter=1e0", "train", "total_iter", 1),
        ("network_g.bn=true", "network_g", "bn", True),
        ("network_g.num_block=2", "network_g", "num_block", 2),
        ("val.metrics=[psnr, ssim]", "val", "metrics", ["psnr", "ssim"]),
        ("precision=32", "precision", None, "32"),
    ],
)
def test_overrides_have_the_right_type(folder: Path, override: str, section: str, key: str | None, value: Any) -> None:
    result = _train("--set", "train.total_iter=1", "--set", override)
    assert result.exit_code == 0, result.output
    resolved = yaml.safe_load((folder / "experiments" / "tiny" / "options.yml").read_text(encoding="utf-8"))
    found = resolved[section] if key is None else resolved[section][key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optim_g.lr=fast", "--set train.optim_g.lr"),
        ("network_g.num_blok=2", "--set network_g.num_blok"),
        ("train.total_iter", "train.total_iter"),
    ],
)
def test_a_wrong_override_is_named(folder: Path, override: str, message: str) -> None:
    result = _train("--set", override)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_sets_the_exit_status(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    from mvmsr.engine import loop

    iterate: Callable[..., Any] = loop.run_iteration

    def asked_to_stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), number)
        return iterate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_iteration", asked_to_stop)
        result = _train()
    assert result.exit_code == status
    assert (
        f"stopped by {number.name} after iteration 1; everything is saved. Continue with --auto-resume."
        in result.output
    )
    assert _train("--auto-resume").exit_code == 0
    assert [r["iter"] for r in _records(folder) if "loss_g/pixel" in r] == [1, 2, 3, 4]


def test_the_script_is_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train_sr.py", "-opt", "tiny.yml", "--set", "name=script"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "train_sr.py"), run_name="__main__")
    assert left.value.code == 0
    assert "Run: experiments/script" in capsys.readouterr().out
    assert _train().exit_code == 0
    timing = ("step_seconds", "data_seconds", "memory_mib")
    by_script, by_command = (
        [{key: value for key, value in record.items() if key not in timing} for record in _records(folder, run)]
        for run in ("script", "tiny")
    )
    assert by_script == by_command
