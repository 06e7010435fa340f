"""`mvmsr train-nmd`: NatSR's natural manifold discriminator from an options file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mvmsr.cli.options import AutoResume, DataRoot
from mvmsr.cli.train_setup import set_up

if TYPE_CHECKING:
    from rich.console import Console


def command(
    opt: Annotated[Path, typer.Option("-opt", "--opt", help="Options file, such as options/train/nmd.yml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one option: --set train.total_iter=20000. May be repeated."),
    ] = None,
    auto_resume: AutoResume = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and build everything, show the size, then stop.")
    ] = False,
    data_root: DataRoot = None,
) -> None:
    """Train the discriminator that NaturalnessLoss uses; `mvmsr train` does the same with such a file."""
    train_from(opt, overrides, auto_resume, dry_run, set_up(data_root))


def train_from(opt: Path, overrides: list[str] | None, auto_resume: bool, dry_run: bool, console: Console) -> None:
    """The command, once it is set up."""
    from rich.console import Console

    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.config import OptionsError
    from mvmsr.config.nmd_options import load_nmd

    with shown_as_messages(OptionsError):
        options = load_nmd(opt, overrides or ())

    from mvmsr.cli.train_failures import failures_told
    from mvmsr.engine.nmd_training import train_nmd

    with failures_told(console):
        if dry_run:
            from mvmsr.engine.nmd_dry_run import nmd_dry_run

            nmd_dry_run(options, Console())
            return
        weights = train_nmd(options, auto_resume, console)
    Console().print(f"Weights: {weights}", soft_wrap=True, markup=False)
