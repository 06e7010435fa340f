"""`mvmsr reproduce`: reproduces the paper's tables 3 and 5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from mvmsr.cli.options import DataRoot
from mvmsr.cli.several_values import spread
from mvmsr.cli.stopping import stoppable
from mvmsr.counting import counted

if TYPE_CHECKING:
    from rich.console import Console

    from mvmsr.reproduction.document import Document
    from mvmsr.reproduction.reproduce import Settings


SEVERAL = ("--only", "--set")


class SeveralRows(TyperCommand):
    """A command whose `--only` takes `--only b g` beside `--only b --only g`; the table may stand behind the rows."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse after spreading the rows and overrides; what begins like a table is none of them."""
        words: list[str] = []
        for word in spread(args, SEVERAL):
            if word.startswith("table") and words and words[-1] in SEVERAL:
                words.pop()
            words.append(word)
        return super().parse_args(ctx, words)


@stoppable()
def command(
    table: Annotated[str, typer.Argument(help="table3 (backbones, GAN or MvM) or table5 (perceptual terms).")],
    budget: Annotated[
        Literal["cpu", "paper"],
        typer.Option(help="cpu: small runs for two cores; paper: the paper's scale, for a GPU."),
    ] = "cpu",
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs per row, with seeds 0, 1, ...")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs, scores and the table.", show_default="results/TABLE_BUDGET")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Train only these rows (srresnet_gan, ...; b to g). One or more.")
    ] = None,
    data_root: DataRoot = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one option of every training run; nmd.KEY=... for row F's discriminator."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be done and what it costs, then stop.")] = False,
    options: Annotated[
        Path | None, typer.Option(help="Folder of the options files.", show_default="options/reproduce")
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the table into its own section of this Markdown file."),
    ] = None,
) -> None:
    """Train the missing rows of a table, benchmark them on the four sets, and compare them with the published figures.

    Can be stopped at any time; the same command resumes from there. Exits 0 only if every row is done.
    """
    from rich.console import Console

    from mvmsr.benchmark.plan import PlanError
    from mvmsr.benchmark.results import ResultsError
    from mvmsr.benchmark.writable import check_folder
    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.cli.logs import log_to
    from mvmsr.cli.tables import table_console
    from mvmsr.config import OptionsError
    from mvmsr.reproduction.reproduce import Settings, find_options, reproduce, write_section
    from mvmsr.reproduction.reproduce import plan as runs_to_do
    from mvmsr.reproduction.rows import ReproductionError
    from mvmsr.reproduction.training import Interrupted

    console = Console(stderr=True)
    log_to(console)
    with shown_as_messages(ReproductionError, OptionsError, PlanError, ResultsError, OSError):
        if document is not None:
            check_folder(document.parent)
        settings = Settings(
            table=table,
            budget=budget,
            out=(out or Path("results") / f"{table}_{budget}").absolute(),
            options=options or find_options(),
            seeds=seeds,
            only=tuple(only or ()),
            overrides=tuple(overrides or ()),
            data_root=data_root,
        )
        if plan:
            _show_plan(settings, runs_to_do(settings), table_console())
            if document is not None:
                write_section(_as_it_is(settings), document)
            return
        bar = _Counting(console)
        try:
            found = reproduce(settings, progress=bar.show)
        except Interrupted as stopped:
            console.print(f"{stopped}.", highlight=False)
            raise typer.Exit(stopped.exit_status) from stopped
        except KeyboardInterrupt as stop:  # while benchmarking
            console.print(
                "stopped; the scores so far are kept, and the same command resumes from there.", highlight=False
            )
            raise typer.Exit(130) from stop
        finally:
            bar.close()
        if document is not None:
            write_section(found, document)
    for judged in found.judgements:
        console.print(f"{judged.claim.text}: {judged.text}", markup=False, highlight=False, soft_wrap=True)
    Console().print(f"wrote {settings.out / found.table}.md, .tex and .json", soft_wrap=True, highlight=False)
    if not found.complete:
        raise typer.Exit(1)


def _show_plan(settings: Settings, runs: Any, console: Console) -> None:
    from rich.table import Table

    from mvmsr.cli.tables import print_table
    from mvmsr.reproduction.runs import stale_runs

    stale = stale_runs(runs)
    shown = Table(title=f"{settings.table}, budget {settings.budget}", title_justify="left")
    for column in ("run", "state", "options", "cost"):
        shown.add_column(column, overflow="fold", no_wrap=column == "run")
    for run in runs:
        shown.add_row(run.key, stale.get(run.key, run.status), str(run.options_file), run.cost)
    print_table(console, shown)
    missing = sum(not run.done or run.key in stale for run in runs)
    console.print(
        f"{missing} of {counted(len(runs), 'run')} still to be trained; then the finished rows are benchmarked on "
        f"Set5, Set14, BSD100 and Urban100 under two protocols; everything is written to {settings.out}",
        soft_wrap=True,
        highlight=False,
    )


def _as_it_is(settings: Settings) -> Document:
    """The document of what was measured before."""
    from mvmsr.benchmark.results import read_results
    from mvmsr.reproduction.reproduce import describe
    from mvmsr.reproduction.scoring import PROTOCOLS

    paths = {protocol: settings.out / "benchmark" / protocol / "results.json" for protocol in PROTOCOLS}
    return describe(settings, {name: read_results(path) for name, path in paths.items() if path.is_file()}, {})


class _Counting:
    """A bar of pictures, drawn from the first one on: the trainings before it have bars of their own."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    def show(self, done: int, total: int, what: str) -> None:
        self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=what)

    def close(self) -> None:
        self._bar.stop()
