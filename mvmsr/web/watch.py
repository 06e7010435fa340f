"""A job's clock: how far it is, and an end to it when it is stopped or takes too long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

_REPORT_SECONDS = 0.1


class Stopped(Exception):
    """The job was told to stop, or ran out of time; the message says which."""


class Watch:
    """Counts the pixels of a job and raises `Stopped` in its thread when it shall end.

    Args:
        pixels: of the input.
        seconds: after which the job is stopped.
        on_progress: told the fraction that is done, at most ten times a second; it never falls.
        clock: seconds from any start.
    """

    def __init__(
        self,
        pixels: int,
        seconds: float,
        on_progress: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._done, self._shown = max(pixels, 1), 0, 0.0
        self._seconds, self._clock, self._begun = seconds, clock, clock()
        self._on_progress, self._reported = on_progress, float("-inf")
        self._why: str | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._begun

    def stop(self, why: str = "Stopped.") -> None:
        """Ends the job at its next step; safe to call from any thread."""
        self._why = why

    def check(self) -> None:
        """Raises where the job shall end.

        Raises:
            Stopped: it shall.
        """
        if self._why is not None:
            raise Stopped(self._why)
        if self.elapsed > self._seconds:
            raise Stopped(
                f"Given up after {self._seconds:g} seconds, the most that one image may take here. "
                "Choose a smaller image or a quicker model."
            )

    def advance(self, pixels: int) -> None:
        """So many more input pixels are done; the callback that the Upscaler wants."""
        self.check()
        self._done += pixels
        self._report(0)

    @contextmanager
    def over(self, module: nn.Module | None) -> Iterator[None]:
        """Within it, each layer of the network is a step: on a processor a single tile may take a minute."""
        if module is None:
            yield
            return
        layers = [part for part in module.modules() if next(part.children(), None) is None]
        area = passed = 0

        # Functions and no methods: networks are copied, with their hooks, to measure how far they look.
        def enters(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal area, passed
            area, passed = inputs[0].shape[-2] * inputs[0].shape[-1], 0
            self.check()

        def leaves(_module: nn.Module, _inputs: object, _output: object) -> None:
            nonlocal passed
            passed += 1
            self.check()
            self._report(int(area * min(passed / len(layers), 1)))

        handles = [module.register_forward_pre_hook(enters)]
        handles += [layer.register_forward_hook(leaves) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _report(self, under_way: int) -> None:
        self._shown = max(self._shown, min((self._done + under_way) / self._total, 1.0))
        if self._clock() - self._reported >= _REPORT_SECONDS:
            self._reported = self._clock()
            self._on_progress(self._shown)
