"""Commands that a signal ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from mvmsr.cli.stopping import stoppable

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
    pytest.mark.usefixtures("terminal"),
]

_WAITS_BEFORE_THE_SECOND = """
import os, time
from mvmsr.cli import main

replace, calls = os.replace, []

def slow(*paths):
    calls.append(paths)
    if len(calls) == 2:
        print("written aside", flush=True)
        time.sleep(60)
    replace(*paths)

os.replace = slow
main()
"""
"""`mvmsr`, which takes a minute to rename the second file that it has written."""


@pytest.mark.parametrize(
    ("number", "status", "options"),
    [
        (signal.SIGTERM, 143, ()),
        pytest.param(signal.SIGHUP, 129, ("--max-memory", "8G"), marks=pytest.mark.slow),  # it is written in strips
    ],
)
def test_upscale_leaves_what_is_finished_and_nothing_hidden(
    tmp_path: Path, number: signal.Signals, status: int, options: tuple[str, ...]
) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        Image.new("RGB", (5, 4)).save(tmp_path / "in" / f"{name}.png")
    command = [sys.executable, "-c", _WAITS_BEFORE_THE_SECOND, "upscale", "in", "-o", "out", "--model", "bicubic"]
    with subprocess.Popen(
        [*command, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written aside\n"
        assert len(list((tmp_path / "out").iterdir())) == 2
        process.send_signal(number)
        _, messages = process.communicate(timeout=50)
    assert process.returncode == status
    assert "1 of 3 done" in messages
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_handlers_and_other_exit_statuses_are_left_alone() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    @stoppable()
    def command(status: int) -> int:
        assert [signal.getsignal(number) for number in numbers] != before
        if status:
            raise typer.Exit(status)
        return 7

    assert command(0) == 7
    with pytest.raises(typer.Exit) as end:
        command(2)
    assert end.value.exit_code == 2
    assert [signal.getsignal(number) for number in numbers] == before


def test_ctrl_c_stays_what_it_is() -> None:
    @stoppable()
    def command() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        command()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_process_just_ends() -> None:
    @stoppable()
    def command() -> int:
        worker = os.fork()
        if worker == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        return os.waitpid(worker, 0)[1]

    assert command() == signal.SIGTERM
