"""What the training commands do first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def set_up(data_root: str | None) -> Console:
    """The console for log lines and progress; the folder of the data sets is set where one was given."""
    from rich.console import Console

    from mvmsr.cli.logs import log_to

    console = Console(stderr=True)
    log_to(console)
    if data_root is not None:
        os.environ["MVMSR_DATA_ROOT"] = data_root
    return console
