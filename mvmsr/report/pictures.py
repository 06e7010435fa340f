"""The sample pictures of runs as tiles of a gallery: small picture over (first, middle, last) result to original."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvmsr.counting import counted
from mvmsr.data.image_io import ImageError, read_rgb
from mvmsr.report.run_files import RunFiles

MOST_PICTURES = 8
"""Pictures in a report; the others stay in the run's `samples` folder."""
_INLINE_PNG_BYTES = 24_000
_QUALITY = 92
_NAME = re.compile(r"(\d{8,})_(.+)\.png")


@dataclass(frozen=True)
class Tile:
    """One picture with its caption; `uri` holds the picture itself."""

    caption: str
    alt: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Gallery:
    """What became of one picture, in rows of tiles."""

    title: str
    rows: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True)
class _Strip:
    """Bicubic, restored and original picture of one sample file."""

    iteration: int
    bicubic: np.ndarray
    sr: np.ndarray
    gt: np.ndarray


def galleries(runs: Sequence[RunFiles]) -> tuple[list[Gallery], list[str]]:
    """One gallery a picture, with the results of all runs that have it, and a sentence for what is left out."""
    notes: list[str] = []
    files = [_files(run.root / "samples") for run in runs]
    names = list(dict.fromkeys(name for one in files for name in one))
    if len(names) > MOST_PICTURES:
        notes.append(f"{len(names) - MOST_PICTURES} further images are in the runs' samples folders")
    found = []
    for name in names[:MOST_PICTURES]:
        strips = [(run, _read(one.get(name, {}), notes)) for run, one in zip(runs, files, strict=True)]
        found += _galleries_of(name.replace("_", " "), [(run, group) for run, group in strips if group], len(runs) > 1)
    return found, notes


def data_uri(rgb: np.ndarray) -> str:
    """The picture (H, W, 3) uint8 inside a URI: PNG where that is small, else WebP of high quality."""
    from PIL import Image

    image, kind = Image.fromarray(rgb), "png"
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    if buffer.tell() > _INLINE_PNG_BYTES:
        buffer, kind = io.BytesIO(), "webp"
        image.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _files(folder: Path) -> dict[str, dict[int, Path]]:
    """Sample files by picture and iteration."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := _NAME.fullmatch(path.name):
            found.setdefault(match[2], {})[int(match[1])] = path
    return found


def _read(files: dict[int, Path], notes: list[str]) -> list[_Strip]:
    """First, middle and last of the samples that can be read."""
    iterations = sorted(files)
    chosen = sorted({iterations[i] for i in (0, len(iterations) // 2, -1)}) if iterations else []
    strips = []
    for iteration in chosen:
        path = files[iteration]
        try:
            picture = read_rgb(path)
        except ImageError as error:
            notes.append(str(error))
            continue
        if picture.shape[1] % 3:
            notes.append(f"{path} is {picture.shape[1]} pixels wide, which three images side by side cannot be")
            continue
        bicubic, sr, gt = np.split(picture, 3, axis=1)
        strips.append(_Strip(iteration, bicubic, sr, gt))
    return strips


def _galleries_of(title: str, runs: list[tuple[RunFiles, list[_Strip]]], name_runs: bool) -> list[Gallery]:
    """One gallery for all runs that restored the same picture in the same part, one more for each other part."""
    shared: list[list[tuple[RunFiles, list[_Strip]]]] = []
    for run, strips in runs:
        for group in shared:
            first = group[0][1][0]
            if np.array_equal(first.gt, strips[0].gt) and np.array_equal(first.bicubic, strips[0].bicubic):
                group.append((run, strips))
                break
        else:
            shared.append([(run, strips)])
    return [
        _gallery(
            title if len(shared) == 1 else f"{title} ({', '.join(run.label for run, _ in group)})", group, name_runs
        )
        for group in shared
    ]


def _gallery(title: str, runs: list[tuple[RunFiles, list[_Strip]]], name_runs: bool) -> Gallery:
    """One run: from bicubic over its results to the original. Several: their last results first, to be compared."""
    first = runs[0][1][0]
    bicubic = _tile("bicubic", f"{title}, enlarged by bicubic interpolation", first.bicubic)
    original = _tile("original", f"{title}, the original", first.gt)
    if len(runs) == 1:
        run, strips = runs[0]
        return Gallery(title, ((bicubic, *(_result(title, run, strip, name_runs) for strip in strips), original),))
    last = [_result(title, run, strips[-1], name_runs) for run, strips in runs]
    earlier = [_result(title, run, strip, name_runs) for run, strips in runs for strip in strips[:-1]]
    return Gallery(title, tuple(row for row in ((bicubic, *last, original), tuple(earlier)) if row))


def _result(title: str, run: RunFiles, strip: _Strip, name_run: bool) -> Tile:
    iterations = counted(strip.iteration, "iteration")
    caption = f"{run.label}, {iterations}" if name_run else iterations
    return _tile(caption, f"{title}, restored by {run.label} after {iterations}", strip.sr)


def _tile(caption: str, alt: str, rgb: np.ndarray) -> Tile:
    return Tile(caption, alt, data_uri(np.ascontiguousarray(rgb)), rgb.shape[1], rgb.shape[0])
