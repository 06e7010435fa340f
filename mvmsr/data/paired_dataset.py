"""Training pairs: aligned random crops of low-quality and ground-truth pictures, in the eight symmetries."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mvmsr.counting import counted
from mvmsr.data.layouts import ImagePair, find_pairs, passed_over, resolve_dataroot
from mvmsr.data.packed_store import PackedStore
from mvmsr.data.packing import load_or_build, plan
from mvmsr.data.picture import IMAGE_SUFFIXES
from mvmsr.registry import DATASETS

log = logging.getLogger(__name__)


@DATASETS.register()
class PairedImageDataset:
    """Pairs of pictures, decoded once into a packed store, from which crops are cut.

    Construction audits everything: pairs that do not match, unreadable files, wrong sizes and pictures smaller than a
    crop are listed together, before training starts.

    Args:
        dataroot_gt: folder of ground-truth pictures or root of a known layout (see `layouts`); or several of them.
        dataroot_lq: folder of low-quality pictures; several, if `dataroot_gt` are several. None takes those of the
            layout, else makes them from the whole ground truth by MATLAB's bicubic downscaling.
        scale: factor between low quality and ground truth.
        gt_size: side of a ground-truth crop in pixels; a multiple of `scale`.
        use_hflip: mirror crops left to right, half of the time.
        use_rot: mirror crops top to bottom and transpose them, each half of the time.
        meta_info_file: text file that names the pictures to take, one a line.
        filename_tmpl: low-quality name for a ground-truth name, such as `{}x4`.
        cache_dir: folder of the packed store; by default `.cache/mvmsr` in the data root, else in the home folder.
        data_root: folder that relative paths are looked for in; else `$MVMSR_DATA_ROOT`, else `./datasets`.

    Raises:
        LayoutError: folders are missing or pictures do not pair up.
        PairError: pictures cannot be used.
        ValueError: `gt_size` is no positive multiple of `scale`, or the two roots differ in number.
    """

    gt_only: ClassVar[bool] = False
    """Whether low-quality pictures are left out, even those that a layout has."""
    crop_threads: ClassVar[int] = 1
    """How many threads should make crops, where there are so many processors; more than one where a crop takes long."""

    def __init__(
        self,
        dataroot_gt: str | list[str],
        dataroot_lq: str | list[str] | None = None,
        scale: int = 4,
        gt_size: int = 96,
        use_hflip: bool = True,
        use_rot: bool = True,
        meta_info_file: str | None = None,
        filename_tmpl: str = "{}",
        cache_dir: str | Path | None = None,
        data_root: str | Path | None = None,
    ) -> None:
        _check_sizes(scale, gt_size)
        self.scale, self.gt_size, self.use_hflip, self.use_rot = scale, gt_size, use_hflip, use_rot
        roots = [resolve_dataroot(root, data_root) for root in as_list(dataroot_gt)]
        self.pairs = find_training_pairs(
            roots, dataroot_lq, scale, filename_tmpl, meta_info_file, data_root, self.gt_only
        )
        cache = Path(cache_dir) if cache_dir else _default_cache_dir(roots[0], data_root)
        self.store: PackedStore = load_or_build(self.pairs, scale, cache, gt_size, label=roots[0].name)
        self.names = [pair.name for pair in self.pairs]
        log.info("%d pairs for x%d from %s", len(self), scale, ", ".join(str(root) for root in roots))

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> None:
        """Look at arguments before there are pictures; other data sets have more to say here.

        Raises:
            ValueError: a value that cannot be right; the message begins with the argument's name.
        """

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.pairs)

    def crop(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An aligned random crop in a random symmetry.

        Returns:
            lq (gt_size / scale, gt_size / scale, 3) and gt (gt_size, gt_size, 3), uint8, contiguous.
        """
        lq, gt = self.crop_views(index, rng)
        return np.ascontiguousarray(lq), np.ascontiguousarray(gt)

    def crop_views(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Like `crop`, as read-only views of the store with whatever strides: to be copied to where they belong."""
        lq, gt = self.store.lq(index), self.store.gt(index)
        side = self.gt_size // self.scale
        # Always the same five draws, so that switching an augmentation off leaves the crops where they were.
        y, x, horizontal, vertical, transpose = rng.random(5)
        top, left = int(y * (lq.shape[0] - side + 1)), int(x * (lq.shape[1] - side + 1))
        lq = lq[top : top + side, left : left + side]
        top, left = top * self.scale, left * self.scale
        gt = gt[top : top + self.gt_size, left : left + self.gt_size]
        mirrored = (horizontal, vertical, transpose)
        return self.symmetry(lq, *mirrored), self.symmetry(gt, *mirrored)

    def symmetry(self, picture: np.ndarray, horizontal: float, vertical: float, transpose: float) -> np.ndarray:
        """A view of (H, W, 3), mirrored and transposed as three draws from 0 to 1 and the options say."""
        if self.use_hflip and horizontal < 0.5:
            picture = picture[:, ::-1]
        if self.use_rot and vertical < 0.5:
            picture = picture[::-1]
        if self.use_rot and transpose < 0.5:
            picture = picture.swapaxes(0, 1)
        return picture


def check_pictures(
    dataroot_gt: str | list[str],
    dataroot_lq: str | list[str] | None = None,
    scale: int = 4,
    gt_size: int = 96,
    meta_info_file: str | None = None,
    filename_tmpl: str = "{}",
    data_root: str | Path | None = None,
    gt_only: bool = False,
) -> int:
    """What `PairedImageDataset` with these arguments finds out about its pictures before it packs them; their number.

    Raises:
        LayoutError, PairError, ValueError: as the dataset.
    """
    _check_sizes(scale, gt_size)
    roots = [resolve_dataroot(root, data_root) for root in as_list(dataroot_gt)]
    pairs = find_training_pairs(roots, dataroot_lq, scale, filename_tmpl, meta_info_file, data_root, gt_only)
    entries, _ = plan(pairs, scale, gt_size)
    return len(entries)


def _check_sizes(scale: int, gt_size: int) -> None:
    if scale < 1:
        raise ValueError(f"scale must be at least 1, got {scale}")
    if gt_size < scale or gt_size % scale:
        below = gt_size - gt_size % scale or scale
        raise ValueError(f"gt_size must be a multiple of scale {scale}, got {gt_size}; use {below}")


def as_list(value: str | Sequence[str]) -> list[str]:
    """What an option of one folder or several names."""
    return [value] if isinstance(value, (str, Path)) else list(value)


def find_training_pairs(
    roots: list[Path],
    dataroot_lq: str | list[str] | None,
    scale: int,
    filename_tmpl: str,
    meta_info_file: str | None,
    data_root: str | Path | None,
    gt_only: bool = False,
) -> list[ImagePair]:
    """The pairs of several roots, one after the other; names get their root's in front where they would clash.

    With `gt_only`, low-quality pictures of a layout are left out.

    Raises:
        ValueError: no roots, or another number of low-quality ones; a LayoutError where folders do not pair up.
    """
    if not roots:
        raise ValueError("dataroot_gt names no folder")
    lq_roots: list[Path | None] = [None] * len(roots)
    if dataroot_lq is not None:
        lq_roots = [resolve_dataroot(root, data_root) for root in as_list(dataroot_lq)]
    if len(lq_roots) != len(roots):
        raise ValueError(
            f"{counted(len(roots), 'folder')} in dataroot_gt, but {len(lq_roots)} in dataroot_lq; give one for each"
        )
    if meta_info_file is not None and len(roots) > 1:
        raise ValueError("meta_info_file works with a single dataroot_gt")
    meta = None if meta_info_file is None else resolve_dataroot(meta_info_file, data_root)
    groups = [find_pairs(gt, lq, scale, filename_tmpl, meta, gt_only) for gt, lq in zip(roots, lq_roots, strict=True)]
    pairs = [pair for group in groups for pair in group]
    for folder in dict.fromkeys(pair.gt.parent for pair in pairs if meta is None):
        if others := passed_over(folder):
            kinds = " ".join(sorted(IMAGE_SUFFIXES))
            log.info("%s: skipped %s; only files directly in it that end in %s are used", folder, others, kinds)
    if len({pair.name for pair in pairs}) == len(pairs):
        return pairs
    return [
        ImagePair(f"{root.name}/{pair.name}", pair.gt, pair.lq)
        for root, group in zip(roots, groups, strict=True)
        for pair in group
    ]


def _default_cache_dir(root: Path, data_root: str | Path | None) -> Path:
    """`.cache/mvmsr` in the data root (the folder above the set where none is given), else in the home folder."""
    base = Path(data_root or os.environ.get("MVMSR_DATA_ROOT") or root.parent).expanduser()
    if base.is_dir() and os.access(base, os.W_OK):
        return base / ".cache" / "mvmsr"
    return Path.home() / ".cache" / "mvmsr"
