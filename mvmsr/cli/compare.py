"""`mvmsr compare`: benchmark results side by side, and how certain their differences are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="RESULTS.json...", help="Files written by `mvmsr test`, or their folders.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for results.json, results.csv and comparison.md.")
    ] = None,
) -> None:
    """Compare methods image by image; exits 1 if results follow different protocols or cannot be compared."""
    from rich.console import Console

    from mvmsr.benchmark.compare import compare_files
    from mvmsr.benchmark.gaps import gaps_markdown
    from mvmsr.benchmark.results import ResultsError, to_csv, write_results, write_text
    from mvmsr.benchmark.statistics_table import statistics_markdown, statistics_table
    from mvmsr.benchmark.table import rich_tables, to_markdown
    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.cli.tables import print_gaps, print_table, table_console

    console = table_console()
    files = [path / "results.json" if path.is_dir() else path for path in files]
    written = [] if out is None else [out / name for name in ("results.json", "results.csv", "comparison.md")]
    with shown_as_messages(ResultsError, OSError):
        if same := {path.resolve() for path in written} & {path.resolve() for path in files}:
            raise ResultsError(f"{same.pop()} would be replaced by the comparison; name another --out")
        results = compare_files(files)
        for table in rich_tables(results, console.width):
            print_table(console, table)
        print_table(console, statistics_table(results))
        note = results.get("note", "")
        if note:
            console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if written:
            as_json, as_csv, as_markdown = written
            write_results(as_json, results)
            write_text(as_csv, to_csv(results))
            tables = to_markdown(results), gaps_markdown(results), statistics_markdown(results)
            write_text(
                as_markdown,
                "\n".join(filter(None, (*tables, f"{note}.\n" if note else ""))),
            )
        for path in written:
            console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    print_gaps(Console(stderr=True), results)
