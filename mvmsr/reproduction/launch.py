"""A command in the foreground, which hears the signals that are meant for it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from types import FrameType

from mvmsr.signals import handled


def launch_process(command: Sequence[str]) -> int:
    """Run a command in the foreground; SIGINT, SIGTERM and SIGHUP reach it, and its end is waited for."""
    process = subprocess.Popen(list(command))

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    with handled(forward):
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:  # the terminal sent it to the training too, which saves and leaves
                continue
