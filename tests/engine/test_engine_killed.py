"""A run that dies at any moment, or is asked to stop, ends up where it would have without."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_runs import assert_same_runs, tiny_options

from mvmsr.config import TrainOptions
from mvmsr.engine.build import Experiment
from mvmsr.engine.checkpoint import checkpoint_dir, list_checkpoints
from mvmsr.engine.logs import read_stats
from mvmsr.engine.loop import train
from mvmsr.engine.stop import Stopped

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="needs POSIX processes and signals"
)
PATIENCE_SECONDS = 120
GO_ON = "go on"


def _options(folder: Path, pictures: Path) -> TrainOptions:
    changes: dict[str, Any] = {
        "train.total_iter": 12,
        "train.ema_decay": 0.9,
        "datasets.val": {"name": "made", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 4, "metrics": ["psnr"], "samples": 0},
        "logger.print_freq": 2,
        "logger.save_checkpoint_freq": 3,
    }
    return tiny_options(folder, pictures, "GM", changes)


def _train_slowly(folder: Path, pictures: Path, die_at: str | None) -> None:
    """A process's work: train as a command would, but slowly, and not to the end before the file `go on` appears.

    Args:
        die_at: `module:function` at whose second call the process kills itself.
    """
    import torch

    from mvmsr.engine import loop, saving

    assert saving.save_checkpoint  # what `die_at` may name
    torch.set_num_threads(1)
    fast = loop.run_iteration

    def slow(experiment: Experiment, parts: Any) -> Any:
        time.sleep(0.05)
        while experiment.iteration == 10 and not die_at and not (folder / GO_ON).exists():
            time.sleep(0.01)
        return fast(experiment, parts)

    loop.run_iteration = slow
    if die_at:
        module, name = die_at.split(":")
        original = getattr(sys.modules[module], name)
        calls = []

        def deadly(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        setattr(sys.modules[module], name, deadly)
    try:
        loop.train(_options(folder, pictures), console=Console(file=io.StringIO()))
    except Stopped as stopped:
        sys.exit(stopped.exit_status)


@pytest.fixture(scope="module")
def whole(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the uninterrupted run."""
    root = tmp_path_factory.mktemp("whole")
    return train(_options(root, pictures), console=Console(file=io.StringIO())).root


@pytest.fixture
def start(pictures: Path, tmp_path: Path) -> Iterator[Any]:
    """A function that starts the slow training in another process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mvmsr.engine.loop"])  # one import of torch for all of these tests
    started: list[BaseProcess] = []

    def begin(die_at: str | None = None) -> BaseProcess:
        process = context.Process(target=_train_slowly, args=(tmp_path, pictures, die_at))
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


def _wait_for_iteration(run: Path, iteration: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(record["iter"] >= iteration for record in read_stats(run / "stats.jsonl")):
        assert time.monotonic() < deadline, "the training in the other process makes no progress"
        time.sleep(0.01)


def _resume(folder: Path, pictures: Path) -> None:
    train(_options(folder, pictures), auto_resume=True, console=Console(file=io.StringIO()))


def test_killed_at_a_random_moment(start: Any, whole: Path, pictures: Path, tmp_path: Path) -> None:
    process = start()
    _wait_for_iteration(tmp_path / "tiny", 4)
    time.sleep(random.uniform(0, 0.4))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    _resume(tmp_path, pictures)
    assert_same_runs(whole, tmp_path / "tiny")


@pytest.mark.parametrize(
    ("die_at", "left"),
    [
        ("mvmsr.engine.checkpoint:file_sha256", [3]),  # the second state is written, its manifest is not
        (
            "mvmsr.engine.saving:_save_weights",
            [3],
        ),  # the best weights of iteration 4 are due, after the first checkpoint
        ("mvmsr.engine.saving:save_checkpoint", [3]),  # the weights of the second checkpoint are there, it is not
        ("mvmsr.engine.saving:expired", [3, 4]),  # the second checkpoint is whole, nothing after it happened
    ],
)
def test_killed_while_writing(
    die_at: str, left: list[int], start: Any, whole: Path, pictures: Path, tmp_path: Path
) -> None:
    process = start(die_at)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    assert [int(path.name) for path in list_checkpoints(tmp_path / "tiny" / "checkpoints")] == left
    _resume(tmp_path, pictures)
    assert_same_runs(whole, tmp_path / "tiny")
    assert list((tmp_path / "tiny" / "checkpoints").glob(".*")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(number: signal.Signals, start: Any, whole: Path, pictures: Path, tmp_path: Path) -> None:
    process = start()
    _wait_for_iteration(tmp_path / "tiny", 4)
    os.kill(process.pid, number)
    (tmp_path / GO_ON).touch()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == 128 + number
    newest = int(list_checkpoints(tmp_path / "tiny" / "checkpoints")[-1].name)
    assert 4 <= newest < 12
    _resume(tmp_path, pictures)
    assert_same_runs(whole, tmp_path / "tiny")


def test_damaged_and_half_written_checkpoints_are_passed_over(
    whole: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "tiny"
    shutil.copytree(whole, broken)
    checkpoints = broken / "checkpoints"
    shutil.rmtree(checkpoint_dir(checkpoints, 12))
    *_, good, newest = list_checkpoints(checkpoints)
    damaged = bytearray((newest / "state.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (newest / "state.pt").write_bytes(damaged)
    shutil.copytree(good, checkpoints / ".00000012.77.tmp")

    with caplog.at_level(logging.INFO):
        _resume(tmp_path, pictures)

    assert f"{newest.name}: the state's checksum differs" in caplog.text
    assert f"Continuing from {good}" in caplog.text
    assert not (checkpoints / ".00000012.77.tmp").exists()
    assert_same_runs(whole, broken)
