"""A run belongs to one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import tiny_options

from mvmsr.engine import run_lock
from mvmsr.engine.loop import train
from mvmsr.engine.run_lock import RunBusyError, locked

pytest.importorskip("fcntl")

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("process 12 on another"); file.flush()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the run `tiny`."""
    (tmp_path / "tiny").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "tiny" / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_the_lock_ends_with_the_first(
    other: subprocess.Popen[str], pictures: Path, tmp_path: Path, console: Console
) -> None:
    options = tiny_options(tmp_path, pictures, changes={"train.total_iter": 1})
    leftover = tmp_path / "tiny" / "checkpoints" / ".00000001.12.tmp"
    leftover.mkdir(parents=True)
    with pytest.raises(RunBusyError, match=r"tiny is being trained by process 12 on another; wait for it or stop it"):
        train(options, auto_resume=True, console=console)
    assert leftover.exists(), "what the other process is writing"
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    train(options, auto_resume=True, console=console)
    assert not leftover.exists()


def test_the_lock_names_its_process_and_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
            with pytest.raises(RunBusyError, match=f"process {os.getpid()} on "), locked(tmp_path):
                pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with ExitStack() as held:
        held.enter_context(locked(tmp_path))
