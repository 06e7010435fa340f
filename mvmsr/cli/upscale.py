"""`mvmsr upscale`: upscales image files."""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler

from mvmsr.cli.options import Device, Precision, Tile, tile_side
from mvmsr.cli.plain_text import plain
from mvmsr.cli.stopping import stoppable
from mvmsr.cli.upscale_plan import Format, Job, make_plan

if TYPE_CHECKING:
    from collections import Counter

    from rich.progress import Progress

    from mvmsr.data.picture import Picture
    from mvmsr.inference.upscaler import Upscaler


_READ_AHEAD_PIXELS = 2**24
_REMEDY = "these formats are not taken from folders; convert them to PNG or JPEG first"


class Stopped(KeyboardInterrupt):
    """Ctrl-C came while images were being upscaled.

    Attributes:
        done: how many are finished.
    """

    def __init__(self, done: int) -> None:
        super().__init__()
        self.done = done


@stoppable()
def command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders of images, or globs.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the results; for a single image also a file name.")
    ] = Path("upscaled"),
    model: Annotated[
        str | None,
        typer.Option(
            help="mvm: crisp, the default. psnr: softer, closest to the original. fast: almost as good in a quarter of "
            "the time. bicubic: no network. Or a weights file (.safetensors, .pth, .onnx) or a run directory."
        ),
    ] = None,
    tile: Tile = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    format_: Annotated[
        Format, typer.Option("--format", help="Format of the results; `keep` uses each input's.")
    ] = Format.keep,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of JPEG, WebP and AVIF.")] = 95,
    suffix: Annotated[str, typer.Option(help="Appended to the name of each result, such as _x4.")] = "",
    outscale: Annotated[
        float | None, typer.Option(help="Final factor; factors other than the network's are reached by resizing.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    skip_done: Annotated[bool, typer.Option("--skip-done", help="Skip inputs whose results exist.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders.")] = False,
    max_memory: Annotated[
        str | None, typer.Option(help="Memory limit of this process, such as 2G or 1500M; sets the tile size.")
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most pixels that an input may declare; by default 2**28 and what its file size makes plausible.",
        ),
    ] = None,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble", help="Average eight rotated and mirrored versions: slightly better, eight times slower."
        ),
    ] = False,
) -> None:
    """Upscale images; transparency, 16 bits, greyscale, colour profile and EXIF are kept."""
    console = Console(stderr=True, emoji=False)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    if overwrite and skip_done:
        raise typer.BadParameter("--overwrite and --skip-done contradict each other", param_hint="--skip-done")
    if any(sign in suffix for sign in "/\\\0"):
        raise typer.BadParameter(
            f"{suffix!r} names folders; it is put behind the name of each result, and -o is for folders",
            param_hint="--suffix",
        )
    # Torch reads this when it first allocates. In pages of 2 MiB, feature maps come and go at little cost; in those of
    # 4 KiB, each costs thousands of page faults, and the heap that avoids them grows to twice the size.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    side, limit = tile_side(tile), _bytes(max_memory)
    try:
        plan = make_plan(inputs, out, format_, suffix, recursive)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    jobs, failures = plan.jobs, plan.failures
    skipped = 0
    for job in [job for job in jobs if job.dst.exists() and not overwrite]:
        jobs.remove(job)
        if skip_done:
            skipped += 1
        else:
            failures.append(
                f"{job.src}: {job.dst} exists and is left alone; --overwrite replaces it, --skip-done passes over it"
            )
    done, is_stopped, total = 0, False, len(jobs) + len(failures)
    if jobs:
        try:
            upscaler = _upscaler(console, model, side, device, precision, ensemble, outscale, limit)
            done = run(jobs, upscaler, console, failures, quality, max_pixels)
        except KeyboardInterrupt as stop:
            done, is_stopped = stop.done if isinstance(stop, Stopped) else 0, True
    elif model is not None:
        _require(console, model)
    for failure in failures:
        console.print(f"[red]not done[/] {plain(failure)}", soft_wrap=True)
    if plan.passed_over:
        console.print(f"[yellow]skipped[/] {_counted(plan.passed_over)}: {_REMEDY}", soft_wrap=True)
    passed = f", {skipped} existed already" if skipped else ""
    console.print(f"{done} of {total} done{passed}, in {plain(out)}", soft_wrap=True)
    if is_stopped:
        again = "" if overwrite else "; the same command with --skip-done resumes"
        console.print(f"[yellow]stopped[/] no partial image is left{again}", soft_wrap=True)
        raise typer.Exit(130)
    if failures:
        raise typer.Exit(1)


def run(
    jobs: list[Job],
    upscaler: Upscaler,
    console: Console,
    failures: list[str],
    quality: int = 95,
    max_pixels: int | None = None,
) -> int:
    """Does the jobs, adding a sentence to `failures` for each that fails; the number of those done.

    While one picture is enlarged, the next is decoded.

    Raises:
        Stopped: Ctrl-C came; the pictures done are whole, and nothing is left of the one in work.
    """
    from mvmsr.data.image_io import ImageError, image_size, read_picture

    sizes: dict[Path, int] = {}
    for job in jobs:
        try:
            height, width = image_size(job.src, max_pixels)
            sizes[job.src] = height * width
        except ImageError as error:
            failures.append(str(error))
    todo = [job for job in jobs if job.src in sizes]
    done = 0
    with ThreadPoolExecutor(1) as reader, _progress(console) as progress:
        task = progress.add_task("", total=sum(sizes.values()))
        finished = 0
        ahead: Future[Picture] | None = None
        for job, following in zip_longest(todo, todo[1:]):
            progress.update(task, description=plain(job.src.name))
            reading = ahead or reader.submit(read_picture, job.src, max_pixels)
            small = following is not None and sizes[following.src] <= _READ_AHEAD_PIXELS
            ahead = reader.submit(read_picture, following.src, max_pixels) if following is not None and small else None
            try:
                upscaler.upscale_to(reading.result(), job.dst, lambda pixels: progress.advance(task, pixels), quality)
                done += 1
            except KeyboardInterrupt as stop:
                raise Stopped(done) from stop
            except ImageError as error:
                failures.append(str(error))
            except (OSError, ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
                failures.append(f"{job.src}: {error or type(error).__name__}")
            finished += sizes[job.src]
            progress.update(task, completed=finished)
    return done


def _bytes(max_memory: str | None) -> int | None:
    if max_memory is None:
        return None
    from mvmsr.inference.memory import parse_bytes

    try:
        return parse_bytes(max_memory)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-memory") from error


def _upscaler(
    console: Console,
    model: str | None,
    tile: int | Literal["auto"],
    device: str,
    precision: str,
    ensemble: bool,
    outscale: float | None,
    limit: int | None,
) -> Upscaler:
    from mvmsr.heap import hand_back_at_once
    from mvmsr.inference.upscaler import Upscaler
    from mvmsr.inference.weights import default_model

    try:
        if limit is not None:
            hand_back_at_once()
        return Upscaler(default_model() if model is None else model, tile, device, precision, ensemble, outscale, limit)
    except ValueError as error:  # WeightsError, and what the device or precision cannot do
        console.print(f"[red]error[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(2) from error


def _require(console: Console, model: str) -> None:
    """Where nothing is to be done, a model that does not exist is an error all the same."""
    from mvmsr.inference.upscaler import BICUBIC
    from mvmsr.inference.weights import WeightsError, find_weights

    try:
        if model != BICUBIC:
            find_weights(model)
    except WeightsError as error:
        console.print(f"[red]error[/] {plain(error)}", soft_wrap=True)
        raise typer.Exit(2) from error


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
