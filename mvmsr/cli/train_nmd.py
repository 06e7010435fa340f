"""`mvmsr train-nmd`: NatSR's natural manifold discriminator from an options file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvmsr.cli.options import AutoResume, DataRoot


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
    import os

    from rich.console import Console

    from mvmsr.cli.errors import shown_as_messages
    from mvmsr.cli.logs import log_to
    from mvmsr.config import OptionsError
    from mvmsr.config.nmd_options import load_nmd

    console = Console(stderr=True)
    log_to(console)
    if data_root is not None:
        os.environ["MVMSR_DATA_ROOT"] = data_root
    with shown_as_messages(OptionsError):
        options = load_nmd(opt, overrides or ())

    from mvmsr.cli.train_failures import NMD_FAILURES
    from mvmsr.engine.nmd_training import train_nmd
    from mvmsr.engine.stop import Stopped

    with shown_as_messages(*NMD_FAILURES):
        if dry_run:
            from mvmsr.engine.nmd_dry_run import nmd_dry_run

            nmd_dry_run(options, Console())
            return
        try:
            weights = train_nmd(options, auto_resume, console)
        except Stopped as stopped:
            console.print(f"{stopped}. Continue with --auto-resume.")
            raise typer.Exit(stopped.exit_status) from stopped
    Console().print(f"Weights: {weights}", soft_wrap=True, markup=False)
