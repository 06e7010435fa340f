"""`mvmsr report`: runs and benchmarks as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvmsr.cli.stopping import stoppable


@stoppable()
def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run directories, such as experiments/NAME, or just NAME; or what `mvmsr test --out` wrote.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", dir_okay=False, help="The page; by default report.html in the first folder."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="A results.json of `mvmsr test` to show beside runs. May be repeated."),
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder of a benchmark's sets, for the originals; default: $MVMSR_DATA_ROOT or ./datasets."),
    ] = None,
) -> None:
    """Write one HTML file: curves, scores, images and options of runs, or the images and scores of a benchmark."""
    from rich.console import Console

    from mvmsr.benchmark.plan import PlanError
    from mvmsr.benchmark.writable import check_folder
    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.inference.weights import in_runs_folder
    from mvmsr.report import ReportError, is_benchmark, write_benchmark_report, write_report

    runs = [in_runs_folder(path) for path in runs]
    benchmarks = [path for path in runs if is_benchmark(path)]
    trained = [path for path in runs if path not in benchmarks]
    with shown_as_messages(ReportError, PlanError, OSError):
        if out is not None:
            check_folder(out.parent)
        if trained or not benchmarks:
            files = [path / "results.json" if path.is_dir() else path for path in benchmarks]
            written = [write_report(trained, out, [*files, *(results or ())])]
        else:
            written = write_benchmark_report([*benchmarks, *(results or ())], out, data_root=data_root)
    console = Console()
    for path in written:
        mib = path.stat().st_size / 2**20
        console.print(f"wrote {path} ({mib:.1f} MiB)", highlight=False, markup=False, soft_wrap=True)
