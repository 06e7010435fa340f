"""A command in the foreground, which hears the signals that are meant for it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType


def launch_process(command: Sequence[str]) -> int:
    """Run a command in the foreground; SIGINT, SIGTERM and SIGHUP reach it, and its end is waited for.

    A SIGHUP that is ignored stays so: that is what `nohup` asks for.
    """
    process = subprocess.Popen(list(command))

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    numbers = [signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:  # the terminal sent it to the training too, which saves and leaves
                continue
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
