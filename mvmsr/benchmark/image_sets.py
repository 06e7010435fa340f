"""The pictures of a benchmark set: pairs of files, and the arrays that methods and metrics see."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mvmsr.counting import counted
from mvmsr.data.image_io import read_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair, LayoutError, find_pairs, resolve_dataroot

MODCROP = 11
"""Pixels of `gt` at most that a cut to multiples of 12 takes away, as of the benchmark sets that fit x2, x3 and x4."""

GT_CACHE_MIB, LQ_CACHE_MIB = 256, 64
"""What a set keeps in memory. Made low-quality pictures cost more to make and less to keep, so more of them fit."""


@dataclass(frozen=True)
class ImageSet:
    """Pairs of pictures under one name.

    Attributes:
        name: what tables call the set.
        pairs: the files; `lq` is None where it is made from `gt`.
        scale: the magnification.
    """

    name: str
    pairs: tuple[ImagePair, ...]
    scale: int
    _gts: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    _lqs: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, pair: ImagePair) -> tuple[np.ndarray, np.ndarray]:
        """`lq` (h, w, 3) and `gt` (h * scale, w * scale, 3), both uint8; kept in memory for the next method as
        far as the limits above allow. Threads may call it side by side.

        `gt` is cut at the right and bottom to a multiple of the scale. A missing `lq` is made by MATLAB's bicubic
        downscaling of it. A file that was made after the usual cut to multiples of 12 has its `gt` cut likewise.

        Raises:
            ImageError: a file cannot be read.
            ValueError: the sizes do not fit the scale.
        """
        gt = self._gts.get(pair.name)
        if gt is None:
            gt = read_rgb(pair.gt)
            height, width = (side // self.scale for side in gt.shape[:2])
            if min(height, width) < 1:
                raise ValueError(f"{pair.gt} is {gt.shape[1]}x{gt.shape[0]}, too small for x{self.scale}")
            gt = np.ascontiguousarray(gt[: height * self.scale, : width * self.scale])
        lq = self._lqs.get(pair.name)
        if lq is None:
            lq = imresize(gt, scale=1 / self.scale) if pair.lq is None else read_rgb(pair.lq)
            height, width = (side // self.scale for side in gt.shape[:2])
            short = (height - lq.shape[0], width - lq.shape[1])
            if min(short) >= 0 and 0 < max(short) <= MODCROP // self.scale:
                height, width = lq.shape[:2]
                gt = np.ascontiguousarray(gt[: height * self.scale, : width * self.scale])
            if lq.shape[:2] != (height, width):
                raise ValueError(
                    f"{pair.lq} is {lq.shape[1]}x{lq.shape[0]}; expected {width}x{height}, 1/{self.scale} of "
                    f"{pair.gt.name}"
                )
        _keep(self._gts, pair.name, gt, GT_CACHE_MIB)
        _keep(self._lqs, pair.name, lq, LQ_CACHE_MIB)
        return lq, gt


def load_image_set(
    name_or_path: str | Path, data_root: str | Path | None = None, scale: int = 4, lq: str = "make"
) -> ImageSet:
    """The set in a folder, or of that name below `data_root` (see `resolve_dataroot`).

    Args:
        lq: `make` the low-quality pictures from the originals, take the `file`s that come with the set, or those of
            the folder that is given here.

    Raises:
        LayoutError: the folder is missing, holds no pictures, or has no low-quality files and `lq` is `file`.
        ValueError: `lq` is neither of the two words nor a folder.
    """
    low = None if lq in ("make", "file") else _low_folder(lq, data_root)
    root = resolve_dataroot(name_or_path, data_root)
    pairs = find_pairs(root, low, scale, gt_only=lq == "make")
    name = name_of(name_or_path)
    if not pairs:
        raise LayoutError(f"{root} holds no images")
    if lq == "file" and (without := [pair.name for pair in pairs if pair.lq is None]):
        raise LayoutError(
            f"{name}: no low-quality file for {len(without)} of {counted(len(pairs), 'image')} in {root}, {without[0]} "
            "first; use lq: make to have them made"
        )
    return ImageSet(name, tuple(pairs), scale)


def name_of(path: str | Path) -> str:
    """The last part of a path; of `.` and `..` that of the folder which they mean."""
    name = Path(path).name
    return Path(path).resolve().name if name in ("", "..") else name


def _low_folder(lq: str, data_root: str | Path | None) -> Path:
    try:
        return resolve_dataroot(lq, data_root)
    except LayoutError as error:
        words = "'make' (bicubic from the originals), 'file' (those of the set) or a folder of low-quality images"
        raise ValueError(f"lq is {lq!r}; use {words}") from error


def _keep(cache: dict[str, np.ndarray], name: str, picture: np.ndarray, limit_mib: int) -> None:
    held = sum(other.nbytes for other in list(cache.values()))
    if name not in cache and held + picture.nbytes <= limit_mib << 20:
        cache[name] = picture
