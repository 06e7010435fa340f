"""A command in the foreground, which hears the signals that are meant for it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType


def launch_process(command: Sequence[str]) -> int:
    """Run a command in the foreground; SIGINT and SIGTERM reach it, and its end is waited for."""
    process = subprocess.Popen(list(command))

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:  # the terminal sent it to the training too, which saves and leaves
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
