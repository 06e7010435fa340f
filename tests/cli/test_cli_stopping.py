"""Commands that a signal ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from mvmsr.cli import stopping
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
        for _ in range(600):
            time.sleep(0.1)  # a signal that comes just before a sleep is answered after it
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


def test_a_signal_that_comes_twice_does_not_disturb_what_cleans_up() -> None:
    cleaned = []

    @stoppable()
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)  # of the terminal, as the shell does on its way out
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append(True)

    with pytest.raises(typer.Exit) as end:
        command()
    assert end.value.exit_code == 129
    assert cleaned


def test_a_later_signal_interrupts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_TOGETHER_SECONDS", -1.0)

    @stoppable()
    def command() -> None:
        with suppress(KeyboardInterrupt):  # lost, as in a destructor
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still running")

    with pytest.raises(typer.Exit) as end:
        command()
    assert end.value.exit_code == 143


@pytest.mark.parametrize(("at", "status"), [("start", 143), ("end", 129)])
def test_a_signal_at_the_very_start_or_end_has_its_exit_status(
    at: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    install = signal.signal

    def signalled_between(number: signal.Signals, handler: Any) -> Any:
        if number == signal.SIGHUP and (handler is before[number]) == (at == "end"):
            os.kill(os.getpid(), status - 128)
        return install(number, handler)

    monkeypatch.setattr("mvmsr.signals.signal.signal", signalled_between)
    try:
        with pytest.raises(typer.Exit) as end:
            stoppable()(lambda: None)()
    finally:
        for number, handler in before.items():
            install(number, handler)
    assert end.value.exit_code == status


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
