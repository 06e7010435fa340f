"""`mvmsr train`: a run from an options file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mvmsr.cli import train_nmd
from mvmsr.cli.options import AutoResume, DataRoot
from mvmsr.cli.train_setup import set_up


def command(
    opt: Annotated[Path, typer.Option("-opt", "--opt", help="Options file, such as options/train/....yml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one option: --set train.optim_g.lr=2e-4. May be repeated."),
    ] = None,
    auto_resume: AutoResume = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and build everything, show sizes and cost, then stop.")
    ] = False,
    verify_resume: Annotated[
        int | None,
        typer.Option(
            "--verify-resume",
            metavar="K",
            min=1,
            help="Repeat K iterations from a checkpoint of the run, report whether they are identical bit for bit, and "
            "stop. The run is not changed.",
        ),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Train a model from a YAML options file; Ctrl-C saves before exiting."""
    from rich.console import Console

    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.config import OptionsError, load
    from mvmsr.config.nmd_options import is_nmd

    console = set_up(data_root)
    with shown_as_messages(OptionsError):
        if is_nmd(opt):
            if verify_resume is not None:
                raise typer.BadParameter("not for the training of a natural manifold discriminator", param_hint="K")
            train_nmd.train_from(opt, overrides, auto_resume, dry_run, console)
            return
        options = load(opt, overrides or ())

    from mvmsr.cli.train_failures import failures_told
    from mvmsr.engine.distributed_setup import is_first

    with failures_told(console):
        if dry_run:
            from mvmsr.engine.dry_run import dry_run as show

            show(options, Console())
            return

        if verify_resume is not None:
            from mvmsr.engine.verify_resume import verify_resume as verify

            verdict = verify(options, verify_resume)
            Console().print("\n".join(verdict.lines()), soft_wrap=True, markup=False, highlight=False)
            raise typer.Exit(0 if verdict.is_exact else 1)

        from mvmsr.engine.loop import train

        folder = train(options, auto_resume, console)
    if is_first():
        report = shlex.join(["mvmsr", "report", str(folder.root)])
        said = f"Run: {folder.root}\nWeights: {folder.weights}\nReport: {report}"
        Console().print(said, soft_wrap=True, markup=False)
