"""What `mvmsr upscale` is to do: which pictures its inputs mean, and where each result goes."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

# fmt: off
_OTHER_PICTURES = frozenset({
    ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".jfif", ".jpe", ".pbm", ".pnm", ".tga", ".psd", ".exr", ".hdr",
    ".svg", ".ico", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
})
# fmt: on
"""Suffixes of pictures that are not taken from folders."""


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


@dataclass
class Plan:
    """The work.

    Attributes:
        failures: a sentence for each part of what was asked for that is refused.
        passed_over: how many pictures there are that are not taken from folders, by their suffixes.
    """

    jobs: list[Job] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def make_plan(inputs: list[str], out: Path, format_: Format, suffix: str, recursive: bool) -> Plan:
    """The work that the inputs mean.

    Files of folders keep their place below the folder; results of before, where `out` lies within it, are no inputs.
    A file that is named twice is one input; a link to it under another name is an input, too, with a result of its own.
    Two inputs are never written to the same result, and no input is ever replaced. Where `out` ends as a picture and is
    no folder, it is the result of the one input.

    Raises:
        ValueError: `out` cannot take the results, or an input is empty.
    """
    whole_name = _is_file_name(out, bool(suffix) or format_ is not Format.keep)
    plan = Plan()
    jobs: dict[Path, Job] = {}
    sources: set[Path] = set()
    seen: set[tuple[Path, str]] = set()
    for text in inputs:
        if not text:
            raise ValueError("an input is empty, perhaps from a variable that is not set; `.` is the current folder")
        is_named = Path(text).is_file()
        found = list(_files_of(text, recursive, out.resolve()))
        taken = [(src, place) for src, place in found if is_named or _is_readable(src)]
        if not found:
            plan.failures.append(f"{text}: {_why_nothing(text, recursive)}")
        if found and not taken:
            plan.failures.append(f"{text}: no images of the formats that are read")
        plan.passed_over.update(src.suffix.lower() for src in {src for src, _ in found} - {src for src, _ in taken})
        for src, place in taken:
            if (src.resolve(), src.name) in seen:
                continue
            seen.add((src.resolve(), src.name))
            if _is_dead_link(src):
                plan.failures.append(f"{src}: is a link to {src.readlink()}, which does not exist")
                continue
            sources.add(src.resolve())
            dst = out if whole_name else out / place / f"{src.stem}{suffix}{_ending(src, format_)}"
            if whole_name and (jobs or len(inputs) > 1):
                raise ValueError(f"{out} is one file, and the inputs are several images; name a folder")
            if dst in jobs:
                plan.failures.append(
                    f"{src}: would be written to {dst}, as {jobs[dst].src}; run them separately, into two folders"
                )
            else:
                jobs[dst] = Job(src, dst)
    for job in list(jobs.values()):
        if job.dst.resolve() in sources:
            del jobs[job.dst]
            plan.failures.append(f"{job.src}: its result would replace an input; name another folder or a --suffix")
    plan.jobs = list(jobs.values())
    return plan


def _is_file_name(out: Path, has_naming_options: bool) -> bool:
    """Whether `out` names a result, not the folder of the results.

    Raises:
        ValueError: it can be neither.
    """
    from mvmsr.data.image_io import IMAGE_SUFFIXES, WRITE_SUFFIXES

    ending = out.suffix.lower()
    if out.is_dir() or not (out.exists() or ending in IMAGE_SUFFIXES | _OTHER_PICTURES):
        return False
    if ending not in WRITE_SUFFIXES:
        what = "is a file" if out.exists() else f"ends in {ending}, which is not written"
        raise ValueError(f"{out} {what}; name a folder, or a file that ends in {', '.join(sorted(WRITE_SUFFIXES))}")
    if has_naming_options:
        raise ValueError(f"{out} names the result in full; omit --format and --suffix, or name a folder")
    return True


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
            elif _is_file(Path(match)) and _is_picture(Path(match)) and not ("**" in text and _lies_in(match, out)):
                yield Path(match), Path()


def _files_in(folder: Path, recursive: bool, out: Path) -> Iterator[tuple[Path, Path]]:
    out_is_within = folder.resolve() in out.parents
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        is_result = out_is_within and _lies_in(path, out)
        if _is_file(path) and _is_picture(path) and not is_result:
            yield path, path.parent.relative_to(folder)


def _lies_in(path: str | Path, folder: Path) -> bool:
    return folder in Path(path).resolve().parents


def _is_file(path: Path) -> bool:
    # A link to nothing was meant to be a file: it is found, to be named.
    return path.is_file() or _is_dead_link(path)


def _is_dead_link(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _is_picture(path: Path) -> bool:
    return _is_readable(path) or (path.suffix.lower() in _OTHER_PICTURES and not path.name.startswith("."))


def _is_readable(path: Path) -> bool:
    from mvmsr.data.picture import IMAGE_SUFFIXES

    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _why_nothing(text: str, recursive: bool) -> str:
    if Path(text).is_dir():
        return "no images in this folder" + ("" if recursive else "; --recursive goes into the folders in it")
    if Path(text).exists():
        return "is neither a file nor a folder (pipes are not read); save the image to a file first"
    return "no such image, folder or match"


def _ending(src: Path, format_: Format) -> str:
    from mvmsr.data.image_io import WRITE_SUFFIXES

    if format_ is not Format.keep:
        return f".{format_.value}"
    return src.suffix if src.suffix.lower() in WRITE_SUFFIXES else ".png"
