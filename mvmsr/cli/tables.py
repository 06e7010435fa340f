"""Tables on the terminal and in pipes, of which no figure is cut off, and what they have no score of."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mvmsr.benchmark.results import Results

UNLIMITED = 1000
"""Characters of a line that nothing limits; wider than any table of ours."""
_OF_TEXT = 4
"""Characters of a line that are left to text at least."""


def table_console() -> Console:
    """Standard output. In a pipe or a file, lines are as long as they need, unless $COLUMNS limits them.

    What it cannot encode, as bytes of file names that are no UTF-8, is spelt out, as on standard error.
    """
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED
    return console


def print_table(console: Console, table: Table) -> None:
    """Print a table whose figures, in columns justified to the right, stay whole.

    They may stand below one another unless their column is `no_wrap`. Where they do not fit all the same, lines run
    over the terminal's edge.
    """
    for column in table.columns:
        sizes = [console.measure(cell) for cell in column.cells] if column.justify == "right" else []
        column.min_width = max((size.maximum if column.no_wrap else size.minimum for size in sizes), default=_OF_TEXT)
    needed = sum((column.min_width or 0) + 3 for column in table.columns) + 1  # with what is drawn between them
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False)


def print_gaps(console: Console, results: Results) -> None:
    """Print what has no score and why: whole metrics, single pictures, failures."""
    from mvmsr.benchmark.gaps import failed, left_out, not_computed

    for style, texts in (("yellow", [*not_computed(results), *left_out(results)]), ("red", failed(results))):
        for text in texts:
            console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
