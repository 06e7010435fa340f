"""Seconds of iterations, by a clock that is set by hand."""

from __future__ import annotations

from mvmsr.engine.report_timer import ReportTimer


class Clock:
    """Tells `now`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_means_of_the_iterations_since_the_last_report() -> None:
    clock = Clock()
    timer = ReportTimer(7, clock)
    for _ in range(2):
        with timer.waiting_for_data():
            clock.now += 1
        clock.now += 3
    assert timer.means(9) == {"step_seconds": 4.0, "data_seconds": 1.0}
    clock.now += 50  # the report itself
    timer.restart(9)
    clock.now += 6
    assert timer.means(12) == {"step_seconds": 2.0, "data_seconds": 0.0}


def test_a_pause_counts_neither_for_the_report_before_nor_after() -> None:
    clock = Clock()
    timer = ReportTimer(0, clock)
    clock.now += 2
    with timer.paused():
        clock.now += 1000
    clock.now += 4
    assert timer.means(3) == {"step_seconds": 2.0, "data_seconds": 0.0}
