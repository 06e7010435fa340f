"""Log lines of a command, beside its progress bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def log_to(console: Console) -> None:
    """Show what our modules report, and of Lightning Fabric only warnings."""
    import logging

    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_path=False, omit_repeated_times=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", datefmt="%H:%M:%S", handlers=[handler], force=True)
    for name in ("lightning_fabric", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
