"""`mvmsr doctor`: what this machine and a run have, lack, and can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvmsr.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from mvmsr.cli.doctor_findings import Finding


@stoppable()
def command(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run directory to check instead of the machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the data sets; default: $MVMSR_DATA_ROOT or ./datasets.")
    ] = None,
    weights_dir: Annotated[
        Path | None, typer.Option(help="Folder of pretrained files; also $MVMSR_WEIGHTS_DIR.")
    ] = None,
    fetch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="First download missing weights, by a name as shown (alexnet) or `all`. May be repeated.",
        ),
    ] = None,
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Measure the speed for a few seconds.")] = True,
    data: Annotated[
        bool,
        typer.Option(
            "--data/--no-data",
            help="For a RUN, also check its images: pairs, sizes, duplicates, benchmark images among them.",
        ),
    ] = True,
) -> None:
    """Show what is installed, which device and precision are used and how fast they are, and which data and weights
    are missing; or check a run. Exits 1 only when something is broken, not when something optional is missing.
    """
    import json

    from rich.console import Console

    from mvmsr.cli.doctor_fetch import fetch_weights
    from mvmsr.cli.doctor_findings import as_document, is_broken

    if fetch:
        fetch_weights(fetch, weights_dir)
    findings = _of_run(run, data, data_root) if run is not None else _of_machine(data_root, weights_dir, speed)
    if as_json:
        typer.echo(json.dumps(as_document(findings), indent=1, ensure_ascii=False))
    else:
        _show(findings, Console())
    if is_broken(findings):
        raise typer.Exit(1)


def _of_machine(data_root: Path | None, weights_dir: Path | None, speed: bool) -> list[Finding]:
    from mvmsr.cli.doctor_files import data_sets, weights
    from mvmsr.cli.doctor_findings import is_broken
    from mvmsr.cli.doctor_machine import computing, measured_speed, room, versions

    findings = [*versions(), *computing()]
    if speed and not is_broken(findings):
        findings += measured_speed()
    return [*findings, *room(data_root), *data_sets(data_root), *weights(weights_dir)]


def _of_run(run: Path, data: bool, data_root: Path | None) -> list[Finding]:
    from mvmsr.cli.doctor_data import check_run_data
    from mvmsr.cli.doctor_run import check_run
    from mvmsr.inference.weights import in_runs_folder

    run = in_runs_folder(run)
    return [*check_run(run), *(check_run_data(run, data_root) if data else ())]


def _show(findings: list[Finding], console: Console) -> None:
    from mvmsr.cli.doctor_findings import State, rich_table

    for section in dict.fromkeys(finding.section for finding in findings):
        console.print(rich_table(section, [finding for finding in findings if finding.section == section]))
        console.print()
    broken = sum(finding.state is State.broken for finding in findings)
    missing = sum(finding.state is State.missing for finding in findings)
    verdict = f"{broken} broken" if broken else "Nothing is broken"
    console.print(f"{verdict}; {missing} optional things are missing." if missing else f"{verdict}.")
