"""Whether a folder holds the pictures of a well-known set: their number, sizes and pixels.

Copies of the benchmarks differ in names, in format, and by a few cut rows, so pictures are known by what all copies
share: the pixels of the largest area from the upper left whose sides are multiples of 4. `fingerprints.json` has the
sizes of these areas and the first 16 hexadecimal digits of the SHA-256 of their RGB bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from mvmsr.data.image_io import ImageError, read_rgb
from mvmsr.data.layouts import first_few

Size = tuple[int, int]
CUT = 12
"""By as many pixels a side may differ: BasicSR's copies are cut to multiples of 12."""


@dataclass(frozen=True)
class Verdict:
    """What pictures are beside those of a known set.

    Attributes:
        same: how many of the set's pictures are there, pixel by pixel.
        of: how many the set has.
        others: names of pictures that are none of them.
        fits: whether number and sizes are those of the set, so that it can be another copy of it.
    """

    name: str
    same: int
    of: int
    others: tuple[str, ...]
    fits: bool

    @property
    def note(self) -> str:
        """What to know of another copy; empty where all pictures are the same, or where it is another set."""
        if not self.fits or not self.others:
            return ""
        return (
            f"{self._counts()}. Number and sizes fit, so it is taken as another copy of {self.name}; its scores may "
            f"differ from those of the usual one. Different: {first_few(self.others)}"
        )

    @property
    def problem(self) -> str:
        """Why it is another set; empty where it is this one or a copy."""
        if self.fits:
            return ""
        found = self.same + len(self.others)
        different = f". Unknown: {first_few(self.others)}" if self.others else ""
        return f"this is not {self.name}, which has {self.of} images, not {found} of these: {self._counts()}{different}"

    def _counts(self) -> str:
        return f"{self.same} of the {self.of} images of {self.name} agree pixel by pixel"


@cache
def fingerprints() -> dict[str, dict[str, str]]:
    """By set and picture: `WIDTHxHEIGHT HASH`."""
    text = (resources.files("mvmsr.data") / "fingerprints.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, str]] = json.loads(text)
    return loaded


def known_name(folder: Path) -> str | None:
    """The set that a folder's name claims it to be, in any case; None where it claims none."""
    by_lower = {name.lower(): name for name in fingerprints()}
    return by_lower.get(folder.name.lower())


def fingerprint(rgb: np.ndarray) -> str:
    """`WIDTHxHEIGHT HASH` of the area of an (H, W, 3) uint8 picture whose sides are multiples of 4."""
    height, width = (side // 4 * 4 for side in rgb.shape[:2])
    pixels = np.ascontiguousarray(rgb[:height, :width])
    return f"{width}x{height} {hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"


def compare(name: str, pictures: Sequence[Path]) -> Verdict:
    """What the pictures are beside those of the set; one that cannot be read is none of them.

    Raises:
        KeyError: no fingerprints of such a set.
    """
    known = set(fingerprints()[name].values())
    found: dict[Path, str] = {}
    for path in pictures:
        try:
            found[path] = fingerprint(read_rgb(path))
        except ImageError:
            found[path] = "0x0 unreadable"
    same = known & set(found.values())
    others = tuple(path.name for path, mark in found.items() if mark not in known)
    left = [_size(mark) for mark in known - same]
    fits = len(found) == len(known) and _sizes_fit([_size(mark) for mark in found.values() if mark not in known], left)
    return Verdict(name, len(same), len(known), others, fits)


def _size(mark: str) -> Size:
    width, _, height = mark.partition(" ")[0].partition("x")
    return int(width), int(height)


def _sizes_fit(sizes: Sequence[Size], wanted: Sequence[Size]) -> bool:
    """Whether every size has a partner that is at most `CUT` off on either side."""
    left = list(wanted)
    for size in sizes:
        off, nearest = min(
            ((max(abs(a - b) for a, b in zip(size, w, strict=True)), w) for w in left), default=(CUT + 1, size)
        )
        if off > CUT:
            return False
        left.remove(nearest)
    return not left
