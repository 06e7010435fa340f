"""Signals ask; they do not interrupt, but for the second Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import assert_same_runs, comparable_stats, tiny_options

from mvmsr.engine import loop, validate
from mvmsr.engine.checkpoint import list_checkpoints
from mvmsr.engine.stop import Stopped, StopRequest, watch_signals


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_sets_the_request(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with watch_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal == number
    assert signal.getsignal(number) is before
    stopped = Stopped(number, 7)
    assert stopped.exit_status == 128 + number
    assert str(stopped) == f"stopped by {number.name} after iteration 7; everything is saved"


def test_a_second_interrupt_is_obeyed_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with watch_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_closed_terminal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with watch_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with watch_signals() as stop:
            seen.append((bool(stop), signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


@pytest.mark.parametrize("at", [5, 10], ids=["midway", "at the end"])
def test_a_validation_that_was_left_is_made_when_the_run_goes_on(
    at: int, pictures: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "datasets.val": {"name": "made", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 5, "metrics": ["psnr"], "samples": 0},
    }
    whole = loop.train(tiny_options(tmp_path / "whole", pictures, changes=changes), console=console).root

    stops: list[StopRequest] = []
    score = validate.Validation.score

    def asked_meanwhile(self: validate.Validation, experiment: object, folder: Path, iteration: int, stop: StopRequest):
        if iteration == at and len(stops) < 2:
            stops.append(stop)
            stop.signal = signal.SIGTERM
        return score(self, experiment, folder, iteration, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(validate.Validation, "score", asked_meanwhile)
    options = tiny_options(tmp_path / "left", pictures, changes=changes)
    for resumed in (False, True):  # the second time at the very beginning
        with pytest.raises(Stopped, match=f"after iteration {at};"):
            loop.train(options, auto_resume=resumed, console=console)
        assert int(list_checkpoints(tmp_path / "left" / "tiny" / "checkpoints")[-1].name) == at
    left = comparable_stats(tmp_path / "left" / "tiny")
    assert [r["iter"] for r in left if "val/made/psnr" in r] == [5][: at // 10]
    loop.train(options, auto_resume=True, console=console)
    assert_same_runs(whole, tmp_path / "left" / "tiny")


def test_the_data_thread_ends_with_the_run(
    pictures: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(loop, "run_iteration", fail)
    with pytest.raises(RuntimeError, match="a mistake"):
        loop.train(tiny_options(tmp_path, pictures), console=console)
    assert [t.name for t in threading.enumerate() if t.name == "mvmsr-batches"] == []
