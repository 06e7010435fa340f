"""The signals that ask a program to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *more: int) -> Iterator[None]:
    """While inside, SIGTERM, SIGHUP and `more` call the handler; only the main thread may set one.

    A SIGHUP that is ignored stays so: that is what `nohup` asks for.
    """
    numbers = [signal.SIGTERM, *more]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
        numbers.append(signal.SIGHUP)
    before: dict[int, Any] = {}
    try:
        for number in numbers:
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
