"""The pictures of a benchmark's report: those that methods disagree on most, and the places where they do."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from mvmsr.benchmark.measure import picture_path
from mvmsr.benchmark.results import Results
from mvmsr.data.image_io import ImageError, read_rgb
from mvmsr.data.imresize import imresize
from mvmsr.report.pictures import data_uri

MOST_PICTURES = 6
"""Pictures of one set in a report."""
MOST_BYTES = 6_000_000
"""What all pictures of a report take, as text inside the page."""
ORIGINAL = "original"
_WINDOW = (480, 640)
"""Height and width of what is shown of a large picture: it is cut, never resized, so that pixels stay pixels."""
_CROP, _PLACES = 64, 2
_THUMBNAIL = 88
_QUALITY = 90

Find = Callable[[str, str], "np.ndarray | None"]
"""The original (H, W, 3) uint8 of a set and a picture's name, or None where it is not to be had."""


@dataclass(frozen=True)
class Place:
    """A square of a shown picture, in its pixels."""

    x: int
    y: int
    side: int


@dataclass(frozen=True)
class Version:
    """One picture as one method made it; `uri` and `crops` (one a place) hold the pixels themselves."""

    name: str
    uri: str
    crops: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """One picture in all its versions, the original last.

    Attributes:
        width, height: of what is shown.
        cut: the picture is larger than what is shown of it.
        places: where the methods differ most.
        thumbnail: a small picture of the last version.
    """

    set: str
    image: str
    width: int
    height: int
    cut: bool
    places: tuple[Place, ...]
    versions: tuple[Version, ...]
    thumbnail: str

    @property
    def size(self) -> int:
        """Characters that it takes in a page."""
        return len(self.thumbnail) + sum(len(v.uri) + sum(map(len, v.crops)) for v in self.versions)


def compare_pictures(
    results: Results, folders: Sequence[Path], original: Find, most_bytes: int = MOST_BYTES
) -> tuple[list[Comparison], list[str]]:
    """Pictures of every set in turn, most interesting first, until `most_bytes` are full, and what could not be shown.

    Args:
        folders: where `mvmsr test` wrote; each may have restored pictures below `images`.
        original: finds originals.
    """
    notes: dict[str, None] = {}
    taken: list[Comparison] = []
    used = 0
    ranked = [[(name, image) for image in ranking(results, name)[:MOST_PICTURES]] for name in set_names(results)]
    for turn in zip_longest(*ranked):  # the first of every set, then the second, so that a full page has all sets
        for set_name, image in filter(None, turn):
            comparison = _compare(results, folders, original, set_name, image, notes)
            if comparison is None:
                continue
            if used and used + comparison.size > most_bytes:
                return _in_order(results, taken), list(notes)
            taken.append(comparison)
            used += comparison.size
    return _in_order(results, taken), list(notes)


def ranking(results: Results, set_name: str) -> list[str]:
    """The pictures of a set: first those on which the methods' scores differ most.

    Every metric ranks the pictures by the range of their scores; the mean rank decides. With one method, those with
    the worst score of the first metric are first.
    """
    rows = [row for row in results["images"] if row["set"] == set_name]
    images = list(dict.fromkeys(row["image"] for row in rows))
    judged = _judged(list(dict.fromkeys(row["method"] for row in rows)))
    ranks = dict.fromkeys(images, 0.0)
    for metric, about in results["metrics"].items():
        values: dict[str, list[float]] = {}
        for row in rows:
            if row["method"] in judged and row.get(metric) is not None and np.isfinite(row[metric]):
                values.setdefault(row["image"], []).append(row[metric])
        if len(judged) > 1:
            interest = {image: max(found) - min(found) for image, found in values.items()}
        else:
            sign = -1 if about.get("higher_is_better", True) else 1
            interest = {image: sign * found[0] for image, found in values.items()}
        for image in images:
            ranks[image] += sum(other > interest.get(image, -np.inf) for other in interest.values())
        if len(judged) == 1:
            break
    return sorted(images, key=lambda image: ranks[image])


def set_names(results: Results) -> list[str]:
    """The sets, in the document's order."""
    return list(dict.fromkeys(row["set"] for row in results["means"]))


def places(pictures: Sequence[np.ndarray], side: int, most: int = _PLACES) -> list[Place]:
    """The squares that differ most between the pictures (H, W, 3) uint8, apart from each other; largest first.

    A pixel's difference is the range of its values over the pictures, averaged over colours.
    """
    from scipy.ndimage import uniform_filter

    stack = np.stack(pictures).astype(np.float32)
    difference = (stack.max(axis=0) - stack.min(axis=0)).mean(axis=2)
    height, width = difference.shape
    side = min(side, height, width)
    # The mean of the square whose upper left corner is at (y, x).
    half = side // 2
    mean = uniform_filter(difference, side)[half : half + height - side + 1, half : half + width - side + 1].copy()
    found = []
    for _ in range(most):
        y, x = (int(i) for i in np.unravel_index(int(mean.argmax()), mean.shape))
        if mean[y, x] <= 0:
            break
        found.append(Place(x, y, side))
        mean[max(0, y - side) : y + side + 1, max(0, x - side) : x + side + 1] = -1
    return found


def _judged(methods: Sequence[str]) -> list[str]:
    """The methods whose disagreement is of interest: bicubic differs from all others everywhere, so not it."""
    others = [method for method in methods if method != "bicubic"]
    return others if len(others) > 1 else list(methods)


def _compare(
    results: Results, folders: Sequence[Path], original: Find, set_name: str, image: str, notes: dict[str, None]
) -> Comparison | None:
    methods = [row["method"] for row in results["images"] if row["set"] == set_name and row["image"] == image]
    pictures = dict(_read(folders, dict.fromkeys(methods), set_name, image, notes))
    if not pictures:
        return None
    truth = original(set_name, image)
    if truth is None:
        notes[f"the originals of {set_name} were not found, so they are not shown"] = None
    elif any(picture.shape != truth.shape for picture in pictures.values()):
        notes[f"the original of {set_name}, {image} has another size than the results, so it is not shown"] = None
    else:
        scale = results["protocol"]["scale"]
        if "bicubic" not in methods and results["protocol"].get("lq", "make") == "make":
            pictures = {"bicubic": imresize(imresize(truth, scale=1 / scale), scale=scale), **pictures}
        pictures[ORIGINAL if ORIGINAL not in methods else "original image"] = truth
    shapes = {picture.shape for picture in pictures.values()}
    if len(pictures) < 2 or len(shapes) > 1:
        notes[f"{set_name}, {image} has no two images of one size to compare"] = None
        return None
    return _encode(set_name, image, pictures, [pictures[name] for name in _judged(methods) if name in pictures])


def _read(
    folders: Sequence[Path], methods: Iterable[str], set_name: str, image: str, notes: dict[str, None]
) -> Iterator[tuple[str, np.ndarray]]:
    for method in methods:
        paths = [picture_path(folder, method, set_name, image) for folder in reversed(folders)]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            notes[f"{method} has no images of {set_name} in {paths[-1].parents[2]}"] = None
            continue
        try:
            yield method, read_rgb(path)
        except ImageError as error:
            notes[str(error)] = None


def _encode(set_name: str, image: str, pictures: Mapping[str, np.ndarray], judged: Sequence[np.ndarray]) -> Comparison:
    compared = judged if len(judged) > 1 else list(pictures.values())[-2:]
    height, width = compared[0].shape[:2]
    side = _CROP if min(height, width) >= 3 * _CROP else max(min(height, width) // 3, 1)
    first = places(compared, side, 1) or [Place(0, 0, side)]
    shown_height, shown_width = min(_WINDOW[0], height), min(_WINDOW[1], width)
    top = min(max(first[0].y + side // 2 - shown_height // 2, 0), height - shown_height)
    left = min(max(first[0].x + side // 2 - shown_width // 2, 0), width - shown_width)
    window = (slice(top, top + shown_height), slice(left, left + shown_width))
    found = places([picture[window] for picture in compared], side)
    versions = []
    for name, picture in pictures.items():
        shown = np.ascontiguousarray(picture[window])
        crops = [shown[p.y : p.y + p.side, p.x : p.x + p.side] for p in found]
        uris = tuple(data_uri(np.ascontiguousarray(crop)) for crop in crops)
        versions.append(Version(name, _webp(shown, _QUALITY), uris))
    return Comparison(
        set=set_name,
        image=image,
        width=shown_width,
        height=shown_height,
        cut=(shown_height, shown_width) != (height, width),
        places=tuple(found),
        versions=tuple(versions),
        thumbnail=_thumbnail(shown),
    )


def _thumbnail(rgb: np.ndarray) -> str:
    from PIL import Image

    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(np.ascontiguousarray(rgb[top : top + side, left : left + side]))
    return _webp(np.asarray(square.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BICUBIC)), 80)


def _webp(rgb: np.ndarray, quality: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=quality, method=3)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _in_order(results: Results, taken: Sequence[Comparison]) -> list[Comparison]:
    order = set_names(results)
    return sorted(taken, key=lambda comparison: order.index(comparison.set))
