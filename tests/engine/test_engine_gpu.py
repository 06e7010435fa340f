"""What only a CUDA device can show: mixed precision's kernels, and that an iteration never waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import assert_same_runs, random_images, tiny_options

from mvmsr.engine.build import Experiment, build
from mvmsr.engine.checkpoint import checkpoint_dir
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.loop import train
from mvmsr.engine.step import Images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA: dict[str, Any] = {"device": "cuda", "datasets.train.gt_size": 32}


def _images(seed: int = 0) -> Images:
    images = random_images(8, 32, seed)
    return Images(images.lq.cuda(), images.gt.cuda(), images.names)


def _experiment(pictures: Path, folder: Path, changes: dict[str, Any]) -> Experiment:
    return build(tiny_options(folder, pictures, "GDM", {**CUDA, **changes}))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_an_iteration_in_mixed_precision(precision: str, pictures: Path, tmp_path: Path) -> None:
    changes = {"precision": precision, "train.ema_decay": 0.9}
    values, _ = run_iteration(_experiment(pictures, tmp_path, changes), [_images()])
    exact, _ = run_iteration(_experiment(pictures, tmp_path, {"train.ema_decay": 0.9}), [_images()])
    assert set(values) == set(exact)
    for name, value in values.items():
        if "loss" in name:
            assert float(value) == pytest.approx(float(exact[name]), rel=0.05), name


@pytest.fixture
def _no_waiting() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("clip", [None, 1.0], ids=["no clipping", "clipping"])
def test_no_iteration_waits_for_the_device(clip: float | None, update: str, pictures: Path, tmp_path: Path) -> None:
    changes = {"precision": "bf16-mixed", "train.update": update, "train.ema_decay": 0.9, "train.grad_clip": clip}
    experiment = _experiment(pictures, tmp_path, changes)
    images = _images()
    for _ in range(3):  # libraries wait while they set themselves up
        run_iteration(experiment, [images])
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(3):
        run_iteration(experiment, [images])


def test_a_bad_update_is_skipped_on_the_device_and_said_later(pictures: Path, tmp_path: Path) -> None:
    experiment = _experiment(pictures, tmp_path, {"precision": "32"})
    run_iteration(experiment, [_images()])
    before = [p.detach().clone() for player in experiment.players.values() for p in player.parameters]
    bad = _images()
    bad.gt[0, 0, 0, 0] = float("nan")

    def go_on() -> None:
        for _ in range(4):
            run_iteration(experiment, [bad])

    with pytest.raises(NonFiniteLossError, match=r"iteration 2: pixel = nan, .*gradient norm = nan in the update of"):
        go_on()
    after = [p for player in experiment.players.values() for p in player.parameters]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_five_and_five_are_ten_on_a_gpu(pictures: Path, tmp_path: Path, console: Console) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        whole = train(tiny_options(tmp_path / "a", pictures, "GDM", CUDA), console=console).root
        half = tiny_options(tmp_path / "b", pictures, "GDM", CUDA)
        run = train(half, console=console)
        for path in checkpoint_dir(run.checkpoints, 10).iterdir():
            path.unlink()
        checkpoint_dir(run.checkpoints, 10).rmdir()
        train(half, auto_resume=True, console=console)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same_runs(whole, tmp_path / "b" / "tiny")
