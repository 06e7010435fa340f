"""Carry out training runs, each in a process of its own that can be cut off and continued."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Sequence

from mvmsr.counting import counted
from mvmsr.reproduction.launch import launch_process
from mvmsr.reproduction.runs import Run, changed_options

log = logging.getLogger(__name__)

Launch = Callable[[Sequence[str]], int]
"""Runs a command to its end and returns its exit status."""
_STOPPED = [128 + getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Exit statuses of a training that a signal ended; Windows has no SIGHUP."""


class Interrupted(Exception):
    """Somebody stopped the work; what was trained is saved, and the same command continues."""

    def __init__(self, exit_status: int) -> None:
        super().__init__("stopped; the training so far is saved, and the same command resumes from there")
        self.exit_status = exit_status


def train_missing(runs: Sequence[Run], data_root: str | None = None, launch: Launch | None = None) -> dict[str, str]:
    """Train every run that is not done; returns why for each that failed, by key.

    A run that was begun with other options is left alone and counts as failed; a row whose discriminator failed is not
    tried.

    Raises:
        Interrupted: a training was stopped by a signal.
    """
    launch = launch or launch_process
    failed: dict[str, str] = {}
    for number, run in enumerate(runs, start=1):
        if changed := changed_options(run):
            failed[run.key] = (
                f"{run.folder} was begun with other options ({', '.join(changed)}); choose another --out, or delete it"
            )
        elif run.row is not None and run.row.needs_nmd and "nmd" in failed:
            failed[run.key] = "its discriminator is missing: " + failed["nmd"]
        elif not run.done:
            log.info("%d of %d: training %s, %s", number, len(runs), run.folder.name, run.status)
            status = launch(run.command(sys.executable, data_root))
            if status in _STOPPED:
                raise Interrupted(status)
            if status != 0 or not run.done:
                failed[run.key] = (
                    f"its training ended with status {status} after {counted(run.iterations, 'iteration')}"
                )
        if run.key in failed:
            log.warning("%s: %s", run.key, failed[run.key])
    return failed
