"""`mvmsr upscale`: enlarges picture files."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress

    from mvmsr.inference.upscaler import Upscaler


class Format(str, Enum):
    """Formats of the results."""

    keep = "keep"
    png = "png"
    jpg = "jpg"
    webp = "webp"


@dataclass(frozen=True)
class Job:
    """One picture to enlarge."""

    src: Path
    dst: Path


def command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders of pictures, or globs.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the results.")],
    model: Annotated[
        str | None,
        typer.Option(help="Built-in name, weights file (.safetensors, .pth), run directory, or `bicubic`."),
    ] = None,
    tile: Annotated[
        str, typer.Option(help="Side of the tiles in input pixels; `auto` fits the memory, 0 takes pictures whole.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32, bf16-mixed or 16-mixed.")] = "auto",
    format_: Annotated[
        Format, typer.Option("--format", help="Format of the results; `keep` is that of each input.")
    ] = Format.keep,
    suffix: Annotated[str, typer.Option(help="Put behind the name of each result, such as _x4.")] = "",
    outscale: Annotated[
        float | None, typer.Option(help="Final factor; other factors than the network's are reached by resizing.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Go into the folders in folders.")] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average eight turned versions: a little better, eight times the time.")
    ] = False,
) -> None:
    """Enlarge pictures; transparency, 16 bits, grey, colour profile and EXIF stay."""
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    jobs, failures = plan(inputs, out, format_, suffix, recursive)
    for job in [job for job in jobs if job.dst.exists() and not overwrite]:
        jobs.remove(job)
        failures.append(f"{job.src}: {job.dst} exists and is left alone; --overwrite replaces it")
    done = 0
    if jobs:
        upscaler = _upscaler(console, model, tile, device, precision, ensemble, outscale)
        done = run(jobs, upscaler, console, failures)
    for failure in failures:
        console.print(f"[red]not done[/] {escape(failure)}", soft_wrap=True)
    console.print(f"{done} of {done + len(failures)} done, in {escape(str(out))}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def plan(inputs: list[str], out: Path, format_: Format, suffix: str, recursive: bool) -> tuple[list[Job], list[str]]:
    """The work that the inputs mean, and a sentence for each part of it that is refused.

    Files of folders keep their place below the folder. Two inputs are never written to the same result, and no input
    is ever replaced.
    """
    jobs: dict[Path, Job] = {}
    failures: list[str] = []
    sources: set[Path] = set()
    for text in inputs:
        found = list(_files_of(text, recursive))
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


def run(jobs: list[Job], upscaler: Upscaler, console: Console, failures: list[str]) -> int:
    """Does the jobs, adding a sentence to `failures` for each that fails; the number of those done."""
    from mvmsr.data.image_io import ImageError, image_size

    sizes: dict[Path, int] = {}
    for job in jobs:
        try:
            height, width = image_size(job.src)
            sizes[job.src] = height * width
        except ImageError as error:
            failures.append(str(error))
    done = 0
    with _progress(console) as progress:
        total = sum(sizes.values())
        task = progress.add_task("", total=total)
        finished = 0
        for job in jobs:
            if job.src not in sizes:
                continue
            progress.update(task, description=escape(job.src.name))
            try:
                upscaler.upscale_file(job.src, job.dst, lambda pixels: progress.advance(task, pixels))
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
) -> Upscaler:
    from mvmsr.inference.upscaler import Upscaler

    if tile != "auto" and not tile.isdecimal():
        raise typer.BadParameter(f"expected `auto` or a number of pixels, got {tile!r}", param_hint="--tile")
    try:
        side: int | Literal["auto"] = "auto" if tile == "auto" else int(tile)
        return Upscaler(model or _default_model(), side, device, precision, ensemble, outscale)
    except ValueError as error:  # WeightsError, and what the device or precision cannot do
        console.print(f"[red]error[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error


def _default_model() -> str:
    from mvmsr.inference.weights import WeightsError, builtin_names

    names = builtin_names()
    if not names:
        raise WeightsError(
            "no --model was named and there are no built-in weights. Train one (mvmsr train -opt "
            "options/train/mvm_srresnet_x4.yml) and name its run directory, name a .pth or .safetensors file, "
            "or use --model bicubic"
        )
    return names[0]


def _files_of(text: str, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Picture files that an input means, each with its place below the folder that it was found in."""
    path = Path(text)
    if path.is_file():
        yield path, Path()
    elif path.is_dir():
        yield from _files_in(path, recursive)
    else:
        for match in sorted(glob.glob(text, recursive=True)):
            if Path(match).is_dir():
                yield from _files_in(Path(match), recursive)
            elif _is_picture(Path(match)):
                yield Path(match), Path()


def _files_in(folder: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if path.is_file() and _is_picture(path):
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
