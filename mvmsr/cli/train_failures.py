"""How a training command ends that does not come to its end; import it late, as it needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from mvmsr.cli.errors import shown_as_messages
from mvmsr.config import OptionsError
from mvmsr.engine.checkpoint import CheckpointError
from mvmsr.engine.distributed import OtherProcessError
from mvmsr.engine.distributed_setup import is_first
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.memory import NotEnoughMemoryError
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_dir import RunExistsError
from mvmsr.engine.run_lock import RunBusyError
from mvmsr.engine.stop import Stopped
from mvmsr.inference.weights import WeightsError
from mvmsr.pretrained import MissingWeights

FAILURES = (
    OptionsError,
    SetupError,
    RunExistsError,
    RunBusyError,
    NonFiniteLossError,
    CheckpointError,
    MissingWeights,
    WeightsError,
    NotEnoughMemoryError,
    OtherProcessError,
)
"""The errors of a training that are shown as messages."""


@contextmanager
def failures_told(console: Console) -> Iterator[None]:
    """Inside, errors that users can mend become messages, and a stop that was asked for its exit status."""
    with shown_as_messages(*FAILURES):
        try:
            yield
        except Stopped as stopped:
            if is_first():
                console.print(f"{stopped}. Continue with --auto-resume.")
            raise typer.Exit(stopped.exit_status) from stopped
