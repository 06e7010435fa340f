"""SIGTERM and a closed terminal interrupt a command as Ctrl-C does, so that nothing half-done is left."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from mvmsr.signals import handled

_INTERRUPTED = 130
_TOGETHER_SECONDS = 1.0
"""Within this time a signal is the same request again: a terminal that closes sends SIGHUP, and so does its shell."""


@contextmanager
def stoppable() -> Iterator[None]:
    """While inside, SIGTERM and SIGHUP raise KeyboardInterrupt; the exit status is then 143 or 129 instead of 130.

    Decorates commands, but not training, which has its own way to end (`mvmsr.engine.stop`).
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    received: list[int] = []
    last = -math.inf
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker process, which has nothing to clean up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        nonlocal last
        before, last = last, time.monotonic()
        received.append(number)
        if last - before > _TOGETHER_SECONDS:  # else it would only interrupt what cleans up
            raise KeyboardInterrupt

    try:
        with handled(handle):
            yield
    except (KeyboardInterrupt, typer.Exit) as stop:
        if received and getattr(stop, "exit_code", _INTERRUPTED) == _INTERRUPTED:
            raise typer.Exit(128 + received[0]) from stop
        raise
