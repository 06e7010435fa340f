"""`mvmsr report`: runs and benchmarks as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories, such as experiments/NAME.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The page; by default report.html in the first run.")
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option("--results", help="A results.json of `mvmsr test` to show. Several.")
    ] = None,
) -> None:
    """Write curves, scores, pictures and options of runs, side by side, to one HTML file."""
    from rich.console import Console

    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.report.run_files import ReportError
    from mvmsr.report.run_page import write_report

    with shown_as_messages(ReportError, OSError):
        path = write_report(runs, out, results or ())
    mib = path.stat().st_size / 2**20
    Console().print(f"wrote {path} ({mib:.1f} MiB)", highlight=False, markup=False, soft_wrap=True)
