"""Errors that users can mend are shown as a message, not as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def shown_as_messages(*expected: type[Exception]) -> Iterator[None]:
    """Print an expected error in red and leave with status 1; any other one passes with its traceback."""
    try:
        yield
    except expected as error:
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
