"""`mvmsr upscale`: enlarges picture files."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress

    from mvmsr.data.picture import Picture
    from mvmsr.inference.upscaler import Upscaler


_READ_AHEAD_PIXELS = 2**24


class Format(str, Enum):
    """Formats of the results."""

    keep = "keep"
    png = "png"
    jpg = "jpg"
    webp = "webp"
    tif = "tif"
    bmp = "bmp"
    avif = "avif"


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    src: Path
    dst: Path


def command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders of pictures, or globs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the results.")] = Path("upscaled"),
    model: Annotated[
        str | None,
        typer.Option(
            help="Built-in name (see `mvmsr models list`), weights file (.safetensors, .pth, .onnx), run directory, "
            "or `bicubic`. Without it, the default built-in model."
        ),
    ] = None,
    tile: Annotated[
        str, typer.Option(help="Side of the tiles in input pixels; `auto` fits the memory, 0 takes pictures whole.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32, bf16-mixed or 16-mixed.")] = "auto",
    format_: Annotated[
        Format, typer.Option("--format", help="Format of the results; `keep` is that of each input.")
    ] = Format.keep,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF.")] = 95,
    suffix: Annotated[str, typer.Option(help="Put behind the name of each result, such as _x4.")] = "",
    outscale: Annotated[
        float | None, typer.Option(help="Final factor; other factors than the network's are reached by resizing.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    skip_done: Annotated[bool, typer.Option("--skip-done", help="Pass over inputs whose results exist.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Go into the folders in folders.")] = False,
    max_memory: Annotated[
        str | None, typer.Option(help="What this process may hold, such as 2G or 800M; chooses the tiles.")
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most pixels that an input may declare; without it, 2**28 and what its length allows."
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average eight turned versions: a little better, eight times the time.")
    ] = False,
) -> None:
    """Enlarge pictures; transparency, 16 bits, grey, colour profile and EXIF stay."""
    console = Console(stderr=True)
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
    jobs, failures = plan(inputs, out, format_, suffix, recursive)
    skipped = 0
    for job in [job for job in jobs if job.dst.exists() and not overwrite]:
        jobs.remove(job)
        if skip_done:
            skipped += 1
        else:
            failures.append(
                f"{job.src}: {job.dst} exists and is left alone; --overwrite replaces it, --skip-done passes over it"
            )
    done = 0
    if jobs:
        upscaler = _upscaler(console, model, tile, device, precision, ensemble, outscale, max_memory)
        done = run(jobs, upscaler, console, failures, quality, max_pixels)
    for failure in failures:
        console.print(f"[red]not done[/] {escape(failure)}", soft_wrap=True)
    passed = f", {skipped} were there already" if skipped else ""
    console.print(f"{done} of {done + len(failures)} done{passed}, in {escape(str(out))}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def plan(inputs: list[str], out: Path, format_: Format, suffix: str, recursive: bool) -> tuple[list[Job], list[str]]:
    """The work that the inputs mean, and a sentence for each part of it that is refused.

    Files of folders keep their place below the folder; results of before, where `out` lies within it, are no inputs.
    Two inputs are never written to the same result, and no input is ever replaced.
    """
    jobs: dict[Path, Job] = {}
    failures: list[str] = []
    sources: set[Path] = set()
    for text in inputs:
        found = list(_files_of(text, recursive, out.resolve()))
        if not found:
            failures.append(f"{text}: {_why_nothing(text, recursive)}")
        for src, place in found:
            if src.resolve() in sources:
                continue
            sources.add(src.resolve())
            dst = out / place / f"{src.stem}{suffix}{_ending(src, format_)}"
            if dst in jobs:
                failures.append(f"{src}: would be written to {dst}, as {jobs[dst].src}; run them apart, to two folders")
            else:
                jobs[dst] = Job(src, dst)
    for job in list(jobs.values()):
        if job.dst.resolve() in sources:
            del jobs[job.dst]
            failures.append(f"{job.src}: its result would replace an input; name another folder or a --suffix")
    return list(jobs.values()), failures


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
            progress.update(task, description=escape(job.src.name))
            reading = ahead or reader.submit(read_picture, job.src, max_pixels)
            small = following is not None and sizes[following.src] <= _READ_AHEAD_PIXELS
            ahead = reader.submit(read_picture, following.src, max_pixels) if following is not None and small else None
            try:
                upscaler.upscale_to(reading.result(), job.dst, lambda pixels: progress.advance(task, pixels), quality)
                done += 1
            except ImageError as error:
                failures.append(str(error))
            except (OSError, ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
                failures.append(f"{job.src}: {error or type(error).__name__}")
            finished += sizes[job.src]
            progress.update(task, completed=finished)
    return done


def _upscaler(
    console: Console,
    model: str | None,
    tile: str,
    device: str,
    precision: str,
    ensemble: bool,
    outscale: float | None,
    max_memory: str | None,
) -> Upscaler:
    # Torch reads this when it first allocates. In pages of 2 MiB, feature maps come and go at little cost; in those of
    # 4 KiB, each costs thousands of page faults, and the heap that avoids them grows to twice the size.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from mvmsr.heap import hand_back_at_once
    from mvmsr.inference.memory import parse_bytes
    from mvmsr.inference.upscaler import Upscaler
    from mvmsr.inference.weights import default_model

    if tile != "auto" and not tile.isdecimal():
        raise typer.BadParameter(f"expected `auto` or a number of pixels, got {tile!r}", param_hint="--tile")
    try:
        side: int | Literal["auto"] = "auto" if tile == "auto" else int(tile)
        limit = None if max_memory is None else parse_bytes(max_memory)
        if limit is not None:
            hand_back_at_once()
        return Upscaler(model or default_model(), side, device, precision, ensemble, outscale, limit)
    except ValueError as error:  # WeightsError, and what the device or precision cannot do
        console.print(f"[red]error[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error


def _files_of(text: str, recursive: bool, out: Path) -> Iterator[tuple[Path, Path]]:
    """Picture files that an input means, each with its place below the folder that it was found in."""
    path = Path(text)
    if path.is_file():
        yield path, Path()
    elif path.is_dir():
        yield from _files_in(path, recursive, out)
    else:
        for match in sorted(glob.glob(text, recursive=True)):
            if Path(match).is_dir():
                yield from _files_in(Path(match), recursive, out)
            elif _is_picture(Path(match)) and not ("**" in text and out in Path(match).resolve().parents):
                yield Path(match), Path()


def _files_in(folder: Path, recursive: bool, out: Path) -> Iterator[tuple[Path, Path]]:
    out_is_within = folder.resolve() in out.parents
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        is_result = out_is_within and out in path.resolve().parents
        if path.is_file() and _is_picture(path) and not is_result:
            yield path, path.parent.relative_to(folder)


def _is_picture(path: Path) -> bool:
    from mvmsr.data.picture import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _why_nothing(text: str, recursive: bool) -> str:
    if Path(text).is_dir():
        return "no pictures in this folder" + ("" if recursive else "; --recursive goes into the folders in it")
    return "no such picture, folder or match"


def _ending(src: Path, format_: Format) -> str:
    from mvmsr.data.image_io import WRITE_SUFFIXES

    if format_ is not Format.keep:
        return f".{format_.value}"
    return src.suffix if src.suffix.lower() in WRITE_SUFFIXES else ".png"


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
