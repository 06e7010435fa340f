"""The `mvmsr` command. Every subcommand is a file of its own and imports what is heavy when it runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mvmsr.cli import (
    compare,
    datasets,
    demo,
    doctor,
    explain_gap,
    export,
    models,
    report,
    reproduce,
    test,
    train,
    train_nmd,
    upscale,
    web,
)
from mvmsr.cli.openmp import sleep_soon
from mvmsr.cli.several_values import SeveralValues

app = typer.Typer(
    name="mvmsr",
    help="Train, benchmark and use x4 super-resolution models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command("train", cls=SeveralValues)(train.command)
app.command("train-nmd", cls=SeveralValues)(train_nmd.command)
app.command("test", cls=SeveralValues)(test.command)
app.command("compare")(compare.command)
app.command("explain-gap", cls=SeveralValues)(explain_gap.command)
app.command("upscale")(upscale.command)
app.command("web")(web.command)
app.add_typer(datasets.app, name="datasets")
app.add_typer(models.app, name="models")
app.command("export")(export.command)
app.command("report")(report.command)
app.command("reproduce", cls=reproduce.SeveralRows)(reproduce.command)
app.command("doctor")(doctor.command)
app.command("demo")(demo.command)


def _version(asked: bool) -> None:
    if asked:
        from mvmsr import __version__

        typer.echo(f"mvmsr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Train, benchmark and use x4 super-resolution models."""
    sleep_soon(os.environ)


def main() -> None:
    """Entry point of the `mvmsr` command."""
    app()
