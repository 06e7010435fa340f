"""`mvmsr datasets`: list, prepare and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mvmsr.cli.stopping import stoppable
from mvmsr.counting import counted

if TYPE_CHECKING:
    from rich.console import Console

_DATA_ROOT = typer.Option(None, "--data-root", help="Folder of the data sets; default: $MVMSR_DATA_ROOT or ./datasets.")

app = typer.Typer(help="List, prepare and check data sets.", no_args_is_help=True)


@app.command("list")
def list_sets(
    data_root: Path | None = _DATA_ROOT,
) -> None:
    """Show the data sets that `prepare` knows, where they come from, and which are present."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mvmsr.data.layouts import NESTED, data_root_or_default
    from mvmsr.data.prepare import known_sets

    root = data_root_or_default(data_root)
    console = Console()
    sets = known_sets().values()
    table = Table("name", "what", "terms", escape(f"in {root}"))
    for known in sets:
        there = any((folder / known.name).exists() for folder in (root, root / NESTED))
        state = "complete" if known.is_complete(root) else "there" if there else "–"
        table.add_row(known.name, known.title, known.terms, state)
    console.print(table)
    for known in sets:  # not in the table, which would cut the addresses up
        console.print(f"{known.name}: {known.home}", soft_wrap=True, highlight=False)
    for known in sets:
        if known.by_hand and not known.is_complete(root):
            console.print(f"To get {known.name}, {known.by_hand}.", soft_wrap=True, highlight=False)


@app.command()
@stoppable()
def prepare(
    name: str = typer.Argument(..., help="A name from `mvmsr datasets list`."),
    data_root: Path | None = _DATA_ROOT,
    source: Path | None = typer.Option(
        None, "--from", help="A folder you already have: it is checked and linked instead of downloading."
    ),
) -> None:
    """Download a data set (or use a folder you already have), check it, and put it where options files look."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.data.prepare import PrepareError, adopt, fetch, find_known, known_sets

    console = Console()
    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with shown_as_messages(PrepareError, OSError):
        known = find_known(name, known_sets())
        if source is not None:
            folder = adopt(known, source, data_root)
        else:
            console.print(f"{known.title}; {known.terms}; {known.home}", soft_wrap=True, highlight=False)
            with Progress(*columns, console=console, transient=True) as bar:
                task = bar.add_task("downloading", total=None)
                folder = fetch(known, data_root, lambda have, total: bar.update(task, completed=have, total=total))
    if not _report(console, folder, 4, decode=False):
        raise typer.Exit(1)


@app.command()
def check(
    folder: Path = typer.Argument(..., help="A data set's folder, or its name below the data root."),
    scale: int = typer.Option(4, min=1, help="Factor between low quality and ground truth."),
    decode: bool = typer.Option(False, help="Decode every image, instead of only reading its header."),
    data_root: Path | None = _DATA_ROOT,
) -> None:
    """Show a folder's layout, its number of pairs, and its problems; exits 1 if there are any."""
    from rich.console import Console

    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.data.known_pictures import known_name
    from mvmsr.data.layouts import LayoutError, resolve_dataroot

    with shown_as_messages(LayoutError):
        found = resolve_dataroot(folder, data_root)
    if not _report(Console(), found, scale, decode, known_name(folder)):  # what is found may be a link's target
        raise typer.Exit(1)


def _report(console: Console, folder: Path, scale: int, decode: bool, name: str | None = None) -> bool:
    """Print what `check` finds; whether all is well."""
    from mvmsr.data.prepare import check as check_folder

    report = check_folder(folder, scale, decode, name)
    console.print(f"{folder}: layout {report.layout}", markup=False, soft_wrap=True)
    made = report.pairs - report.with_lq
    console.print(
        f"{counted(report.pairs, 'pair')}, {report.with_lq} with low-quality files, {made} to be made by bicubic"
    )
    for note in report.notes:
        console.print(note, style="yellow", markup=False, soft_wrap=True, highlight=False)
    for problem in report.problems:
        console.print(problem, style="red", markup=False, soft_wrap=True, highlight=False)
    if report.problems:
        console.print(counted(len(report.problems), "problem"))
    return not report.problems
