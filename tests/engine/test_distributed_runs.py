"""Whole runs on several processes: their weights, statistics, checkpoints, and how they continue."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from process_groups import Gang
from rich.console import Console
from tiny_runs import assert_same_runs, comparable_stats, final_state, options_file, tiny_options

from mvmsr import config
from mvmsr.data.image_io import read_rgb
from mvmsr.engine.checkpoint import CheckpointError, checkpoint_dir
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.loop import train
from mvmsr.engine.stop import Stopped

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")

# Adam divides gradients that are nothing but rounding errors (of biases before batch normalisation) by their own size.
CALM = {"type": "Adam", "lr": 1e-3, "eps": 1e-3}


def _changes(pictures: Path, batch: int, total: int = 10) -> dict[str, Any]:
    return {
        "train.total_iter": total,
        "train.ema_decay": 0.9,
        **{f"train.optim_{n}": CALM for n in "gdm"},
        "train.pixel_opt": {"type": "MSELoss"},  # no steps in the gradient, over which rounding could lead apart
        "train.triplet_opt": {"type": "DirectedTripletLoss", "triplets": "shuffle", "hinge": "softplus"},
        "datasets.train.batch_size_per_gpu": batch,
        "datasets.train.gt_size": 32,
        "datasets.val": {"name": "made", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 5, "metrics": ["psnr"], "samples": 3},
        "logger.save_checkpoint_freq": 5,
    }


def run_share(path: Path, auto_resume: bool) -> str:
    """Train one process's share; what ended it."""
    try:
        train(config.load(path), auto_resume, Console(file=io.StringIO()))
    except (CheckpointError, NonFiniteLossError, Stopped) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


@pytest.fixture(scope="module")
def gang() -> Iterator[Gang]:
    """Two processes."""
    processes = Gang(2)
    yield processes
    processes.close()


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten iterations of one process with batches of 4."""
    root = tmp_path_factory.mktemp("whole")
    return train(tiny_options(root, pictures, "GDM", _changes(pictures, 4)), console=Console(quiet=True)).root


@pytest.fixture(scope="module")
def shared(gang: Gang, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of two processes with 2 pictures each."""
    root = tmp_path_factory.mktemp("shared")
    assert gang.run(run_share, options_file(root, pictures, "GDM", _changes(pictures, 2)), False) == ["done"] * 2
    return root / "tiny"


def _assert_close(mine: Path, theirs: Path) -> None:
    """Weights, averages, buffers and statistics of two runs agree but for what becomes of rounding errors.

    Batch normalisation over the discriminator's last maps, of four pixels, makes float32's errors a thousand times
    larger; float64's are measured in `test_distributed_gradients`.
    """
    a, b = final_state(mine), final_state(theirs)
    assert a["iteration"] == b["iteration"]
    for name, state in {**a["networks"], "ema": a["ema"]}.items():
        other = b["ema"] if name == "ema" else b["networks"][name]
        for key, tensor in state.items():
            torch.testing.assert_close(tensor, other[key], rtol=1e-2, atol=1e-3, msg=lambda m, k=key: f"{k}: {m}")
    for record, other in zip(comparable_stats(mine), comparable_stats(theirs), strict=True):
        assert record == pytest.approx(other, rel=1e-2, abs=1e-3)


def test_ten_iterations_are_those_of_one_process(whole: Path, shared: Path) -> None:
    _assert_close(shared, whole)
    assert final_state(shared)["batch_size"] == final_state(whole)["batch_size"] == 4
    assert len(final_state(shared)["rng_of_others"]) == 1


def test_sample_pictures_of_all_processes_are_there(whole: Path, shared: Path) -> None:
    names = sorted(p.name for p in (whole / "samples").iterdir())
    assert sorted(p.name for p in (shared / "samples").iterdir()) == names
    assert len(names) == 6  # three at each of two validations
    for name in names:
        difference = read_rgb(shared / "samples" / name).astype(int) - read_rgb(whole / "samples" / name)
        assert abs(difference).max() <= 1


def _half(run: Path, folder: Path) -> None:
    """What a run leaves that was killed after its fifth iteration."""
    shutil.copytree(run, folder / "tiny")
    shutil.rmtree(checkpoint_dir(folder / "tiny" / "checkpoints", 10))


def test_two_processes_continue_themselves_to_the_bit(gang: Gang, shared: Path, pictures: Path, tmp_path: Path) -> None:
    _half(shared, tmp_path)
    assert gang.run(run_share, options_file(tmp_path, pictures, "GDM", _changes(pictures, 2)), True) == ["done"] * 2
    assert_same_runs(shared, tmp_path / "tiny")


def test_one_process_continues_what_two_began(shared: Path, pictures: Path, tmp_path: Path) -> None:
    _half(shared, tmp_path)
    assert run_share(options_file(tmp_path, pictures, "GDM", _changes(pictures, 4)), True) == "done"
    _assert_close(tmp_path / "tiny", shared)


def test_two_processes_continue_what_one_began(gang: Gang, whole: Path, pictures: Path, tmp_path: Path) -> None:
    _half(whole, tmp_path)
    assert gang.run(run_share, options_file(tmp_path, pictures, "GDM", _changes(pictures, 2)), True) == ["done"] * 2
    _assert_close(tmp_path / "tiny", whole)


def test_another_batch_size_is_refused_with_the_remedy(gang: Gang, whole: Path, pictures: Path, tmp_path: Path) -> None:
    _half(whole, tmp_path)
    errors = gang.run(run_share, options_file(tmp_path, pictures, "GDM", _changes(pictures, 4)), True)
    for error in errors:
        assert error.startswith(
            "CheckpointError: the run has steps of 4 images, but 4 on each of 2 processes make 8; continue with "
            "--set datasets.train.batch_size_per_gpu=2, or start another run"
        )
    with pytest.raises(CheckpointError, match=r"but 3 on each of 1 process make 3; .*batch_size_per_gpu=4"):
        train(tiny_options(tmp_path, pictures, "GDM", _changes(pictures, 3)), True, Console(quiet=True))


def run_with_bad_term(path: Path, bad_rank: int) -> str:
    """As `run_share`, with pictures that are not finite on one process in the fourth iteration."""
    from mvmsr.engine import loop

    move = loop.to_device
    calls = []

    def spoil(*args: Any) -> Any:
        images = move(*args)
        calls.append(1)
        if len(calls) == 4 and int(os.environ["RANK"]) == bad_rank:
            images.gt[0] = float("nan")
        return images

    loop.to_device = spoil
    try:
        return run_share(path, False)
    finally:
        loop.to_device = move


def test_all_stop_at_a_loss_that_is_not_finite_on_one(gang: Gang, pictures: Path, tmp_path: Path) -> None:
    changes = {**_changes(pictures, 2, 8), "logger.save_checkpoint_freq": 3}
    errors = gang.run(run_with_bad_term, options_file(tmp_path, pictures, "GM", changes), 1)
    assert errors[0] == errors[1]
    assert errors[0].startswith("NonFiniteLossError: iteration 4: pixel = nan")
    named = errors[0].split("on the images ")[1].split(". The weights")[0]
    assert len(named.split(", ")) == 4  # of the whole batch
    assert final_state(tmp_path / "tiny")["iteration"] == 3


def run_until_asked(path: Path, asked_rank: int) -> str:
    """As `run_share`; one process is asked to stop during its fourth iteration."""
    import signal

    from mvmsr.engine import loop

    step = loop.run_iteration

    def ask(experiment: Any, parts: Any) -> Any:
        if experiment.iteration == 3 and experiment.processes.rank == asked_rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(experiment, parts)

    loop.run_iteration = ask
    try:
        return run_share(path, False)
    finally:
        loop.run_iteration = step


@pytest.mark.parametrize("asked_rank", [0, 1])
def test_all_stop_after_the_same_iteration_when_one_is_asked(
    asked_rank: int, gang: Gang, whole: Path, pictures: Path, tmp_path: Path
) -> None:
    path = options_file(tmp_path, pictures, "GDM", _changes(pictures, 2))
    ends = gang.run(run_until_asked, path, asked_rank)
    assert ends == ["Stopped: stopped by SIGTERM after iteration 4; everything is saved"] * 2
    assert final_state(tmp_path / "tiny")["iteration"] == 4


def show(path: Path) -> str:
    """What `--dry-run` prints."""
    from mvmsr.engine.dry_run import dry_run

    text = io.StringIO()
    dry_run(config.load(path), Console(file=text, width=160))
    return text.getvalue()


def test_dry_run(gang: Gang, pictures: Path, tmp_path: Path) -> None:
    first, second = gang.run(show, options_file(tmp_path, pictures, "GDM", _changes(pictures, 2)))
    assert "2 processes of 2 images: batches of 4" in first
    assert "Options are valid." in first
    assert second == ""
    assert not (tmp_path / "tiny").exists()
