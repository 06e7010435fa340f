"""Ctrl-C, SIGTERM and a closed terminal ask the loop to finish its iteration, save and leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mvmsr.engine.distributed import ALONE, Processes
from mvmsr.signals import handled


class StopRequest:
    """Whether somebody asked the run to stop, and by which signal.

    On several processes a signal counts from the next `settle` on, at the same place for all of them.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.asked: int | None = None
        """The signal that this process has received."""
        self._processes = ALONE

    def __bool__(self) -> bool:
        return self.signal is not None

    def ask(self, number: int) -> None:
        """This process has received the signal `number`."""
        self.asked = number
        if self._processes.size == 1:
            self.signal = number

    def share(self, processes: Processes) -> None:
        """From now on the processes stop together."""
        self._processes = processes
        if processes.size > 1:
            self.signal = None

    def settle(self) -> None:
        """Let all processes know whether one of them was asked."""
        if self._processes.size > 1:
            self.signal = self._processes.largest(self.asked or 0) or None

    def stopped_after(self, iteration: int) -> Stopped:
        """The exception to leave the loop with, once everything is saved."""
        return Stopped(self.signal or signal.SIGTERM, iteration)


class Stopped(Exception):
    """No error: the run stopped before its end because it was asked to, and its state is saved.

    Args:
        signal_number: of the signal that asked.
    """

    def __init__(self, signal_number: int, iteration: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signal_number).name} after iteration {iteration}; everything is saved"
        )
        self.exit_status = 128 + signal_number


@contextmanager
def watch_signals() -> Iterator[StopRequest]:
    """While inside, SIGINT, SIGTERM and SIGHUP (see `signals.handled`) set the request; a second SIGINT interrupts."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.ask(number)

    with handled(handle, signal.SIGINT):
        yield request
