"""One process fails, is killed or hangs: the others leave soon and say who it was, and the last checkpoint is good."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from process_groups import context, environment, free_port
from rich.console import Console
from tiny_runs import final_state, options_file

from mvmsr import config
from mvmsr.engine.checkpoint import list_checkpoints

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="needs torch.distributed and POSIX signals"
)
LEAVES_WITHIN_SECONDS = 120
"""A minute, and as much again for a busy machine."""
SIZE = 3


def _fail(how: str) -> None:
    if how == "raises":
        raise ArithmeticError("a mistake in one process")
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "is stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def _work(rank: int, port: int, path: Path, how: str) -> None:
    """Train until the sixth iteration, in which process 1 fails; leave the message in a file."""
    os.environ.update(environment(rank, SIZE, port) | {"MVMSR_PATIENCE_SECONDS": "4"})
    torch.set_num_threads(1)
    sys.stderr = (path.parent / f"stderr{rank}").open("w", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    from mvmsr.engine import loop

    step = loop.run_iteration

    def fail(experiment: Any, parts: Any) -> Any:
        if experiment.iteration == 5 and rank == 1:
            _fail(how)
        return step(experiment, parts)

    loop.run_iteration = fail
    try:
        loop.train(config.load(path), False, Console(file=io.StringIO()))
    except Exception as error:
        (path.parent / f"message{rank}").write_text(f"{type(error).__name__}: {error}")
        sys.exit(1)


@pytest.fixture
def start() -> Iterator[Callable[..., list[BaseProcess]]]:
    """A function that starts the processes."""
    started: list[BaseProcess] = []

    def begin(path: Path, how: str) -> list[BaseProcess]:
        port = free_port()
        for rank in range(SIZE):
            process = context().Process(target=_work, args=(rank, port, path, how))
            process.start()
            started.append(process)
        return started

    yield begin
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("how", "shards", "said"),
    [
        ("raises", False, "failed at iteration 6: ArithmeticError: a mistake in one process (this is process {rank})"),
        ("is killed", False, "gives no sign of life (killed or stopped), last seen at "),
        ("is killed", True, "gives no sign of life (killed or stopped), last seen at "),
        pytest.param("is stopped", False, "(killed or stopped), last seen at ", marks=pytest.mark.slow),
        pytest.param("hangs", False, "hangs at iteration 6", marks=pytest.mark.slow),
        pytest.param("hangs", True, "hangs at iteration 6", marks=pytest.mark.slow),
    ],
)
def test_the_others_leave_and_name_it(
    how: str, shards: bool, said: str, start: Callable[..., list[BaseProcess]], pictures: Path, tmp_path: Path
) -> None:
    changes = {"train.total_iter": 50, "logger.save_checkpoint_freq": 2, "datasets.train.batch_size_per_gpu": 1}
    changes["train.shard_generator"] = shards
    path = options_file(tmp_path, pictures, "GM", changes)
    processes = start(path, how)
    others = [process for rank, process in enumerate(processes) if rank != 1]
    for process in others:
        process.join(LEAVES_WITHIN_SECONDS)
        assert process.exitcode == 1
    for rank in (0, 2):
        message = (tmp_path / f"message{rank}").read_text()
        assert message.startswith("OtherProcessError: process 1 of 3 ")
        assert said.format(rank=rank) in message
    if how == "raises":
        processes[1].join(LEAVES_WITHIN_SECONDS)
        assert (tmp_path / "message1").read_text() == "ArithmeticError: a mistake in one process"
    assert [int(p.name) for p in list_checkpoints(tmp_path / "tiny" / "checkpoints")] == [2, 4]
    assert final_state(tmp_path / "tiny")["iteration"] == 4
