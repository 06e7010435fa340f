"""Pretrained weights that are missing, fetched from where they are published."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def fetch_weights(names: Sequence[str], weights_dir: Path | None) -> None:
    """Download what is missing of these files; `all` stands for every one that has an address.

    Raises:
        typer.Exit: 2 for an unknown name, before anything is fetched; 1 where one cannot be had.
    """
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from mvmsr.pretrained import FILES, MissingWeights, download
    from mvmsr.registry import did_you_mean

    errors = Console(stderr=True)
    for name in names:
        if name not in (*FILES, "all"):
            text = f"unknown weights {name!r}.{did_you_mean(name, FILES)} Known are {', '.join(FILES)}, or all."
            errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2)
    published = [name for name, file in FILES.items() if file.url]
    wanted = list(dict.fromkeys([*names, *published] if "all" in names else names))
    wanted = [name for name in wanted if name != "all"]
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    failed = False
    with Progress(*columns, console=errors) as progress:
        for name in wanted:
            task = progress.add_task(name, total=None)
            try:
                path = download(name, weights_dir, partial(_show, progress, task))
            except MissingWeights as error:
                failed = True
                progress.console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
                continue
            size = path.stat().st_size
            progress.update(task, completed=size, total=size)
            progress.console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _show(progress: Progress, task: TaskID, had: int, of: int | None) -> None:
    progress.update(task, completed=had, total=of)
