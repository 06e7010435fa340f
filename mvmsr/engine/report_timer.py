"""How long iterations took since the last report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ReportTimer:
    """Seconds of iterations from one report to the next; it begins with the first one.

    Args:
        iteration: the number of finished iterations.
        clock: tells the time in seconds.
    """

    def __init__(self, iteration: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.restart(iteration)

    def restart(self, iteration: int) -> None:
        """Forget what was, after the report of `iteration`."""
        self._start, self._since, self._data_seconds = self._clock(), iteration, 0.0

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """What passes inside counts as waiting for data, and as part of the iteration."""
        start = self._clock()
        yield
        self._data_seconds += self._clock() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What passes inside does not count."""
        start = self._clock()
        yield
        self._start += self._clock() - start

    def means(self, iteration: int) -> dict[str, float]:
        """`step_seconds` and `data_seconds` for each iteration since the last report; `iteration` is a later one."""
        count = iteration - self._since
        return {"step_seconds": (self._clock() - self._start) / count, "data_seconds": self._data_seconds / count}
