"""Advice on the number of threads."""

from __future__ import annotations

import os

import pytest

from mvmsr import hardware
from mvmsr.cli.doctor_machine import _threads
from mvmsr.hardware import processors_busy_elsewhere, thread_advice


@pytest.mark.parametrize(
    ("threads", "processors", "busy", "advised"),
    [
        (2, 2, 0.0, None),
        (2, 2, 0.4, None),
        (2, 2, 1.0, 1),
        (2, 2, 9.0, 1),
        (1, 2, 5.0, None),
        (8, 16, 7.0, None),
        (8, 16, 12.2, 4),
    ],
)
def test_threads_get_the_processors_that_are_free(threads: int, processors: int, busy: float, advised: int | None):
    advice = thread_advice(threads, processors, busy)
    assert (advice is None) == (advised is None)
    assert advice is None or f"OMP_NUM_THREADS={advised}" in advice


def test_this_programs_own_threads_do_not_count_as_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (3.25, 9.0, 9.0), raising=False)
    assert processors_busy_elsewhere(2) == 1.25
    assert processors_busy_elsewhere(4) == 0.0
    monkeypatch.delattr(os, "getloadavg")
    assert processors_busy_elsewhere(0) == 0.0


def test_doctor_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hardware, "usable_processors", lambda: 4)
    monkeypatch.setattr(hardware, "processors_busy_elsewhere", lambda threads: 3.0)
    assert "OMP_NUM_THREADS=1" in (_threads(4).remedy or "")
    monkeypatch.setattr(hardware, "processors_busy_elsewhere", lambda threads: 0.0)
    assert not _threads(4).remedy
