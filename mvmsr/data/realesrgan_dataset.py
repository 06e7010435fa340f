"""Training pairs made from ground truth alone, by Real-ESRGAN's second-order degradation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvmsr.data.paired_dataset import PairedImageDataset
from mvmsr.data.second_order import FIRST, SECOND, SecondOrder, second_order
from mvmsr.data.sharpening import sharpened
from mvmsr.registry import DATASETS

_ROOM = 64  # pixels of a picture that are degraded along with a crop; Real-ESRGAN's crops of 256 have 144


@DATASETS.register()
class RealESRGANDataset(PairedImageDataset):
    """`PairedImageDataset` whose low-quality crops come from the ground truth by `SecondOrder`.

    A region up to 64 pixels larger than the crop is degraded, and the pair cut from it at random, as Real-ESRGAN does:
    so most crops have pixels around them to blur with, and lie anywhere on JPEG's grid. Where a region ends, a
    blur mirrors it. Everything is drawn from the crop's own generator, so a run that is continued sees what it would
    have seen.

    Args:
        dataroot_gt, scale, gt_size, use_hflip, use_rot, meta_info_file, cache_dir, data_root: as of
            `PairedImageDataset`.
        dataroot_lq: refused; low-quality pictures that a layout has are not read either.
        gt_usm: sharpen the ground truth (see `sharpening`): what is degraded as well as what losses compare with.
        blur_kernel_size and all that follow: as of `Round`, those with a 2 (and `second_blur_prob`) of the second;
            `final_sinc_prob` as of `SecondOrder`.

    Raises:
        LayoutError, PairError, ValueError: as `PairedImageDataset` and `SecondOrder`.
    """

    gt_only = True
    crop_threads = 8

    def __init__(
        self,
        dataroot_gt: str | list[str],
        dataroot_lq: str | list[str] | None = None,
        scale: int = 4,
        gt_size: int = 96,
        use_hflip: bool = True,
        use_rot: bool = True,
        meta_info_file: str | None = None,
        cache_dir: str | Path | None = None,
        data_root: str | Path | None = None,
        gt_usm: bool = False,
        blur_kernel_size: int = FIRST.blur_kernel_size,
        kernel_list: tuple[str, ...] = FIRST.kernel_list,
        kernel_prob: tuple[float, ...] = FIRST.kernel_prob,
        sinc_prob: float = FIRST.sinc_prob,
        blur_sigma: tuple[float, float] = FIRST.blur_sigma,
        betag_range: tuple[float, float] = FIRST.betag_range,
        betap_range: tuple[float, float] = FIRST.betap_range,
        resize_prob: tuple[float, float, float] = FIRST.resize_prob,
        resize_range: tuple[float, float] = FIRST.resize_range,
        gaussian_noise_prob: float = FIRST.gaussian_noise_prob,
        noise_range: tuple[float, float] = FIRST.noise_range,
        poisson_scale_range: tuple[float, float] = FIRST.poisson_scale_range,
        gray_noise_prob: float = FIRST.gray_noise_prob,
        jpeg_range: tuple[int, int] = FIRST.jpeg_range,
        second_blur_prob: float = SECOND.blur_prob,
        blur_kernel_size2: int = SECOND.blur_kernel_size,
        kernel_list2: tuple[str, ...] = SECOND.kernel_list,
        kernel_prob2: tuple[float, ...] = SECOND.kernel_prob,
        sinc_prob2: float = SECOND.sinc_prob,
        blur_sigma2: tuple[float, float] = SECOND.blur_sigma,
        betag_range2: tuple[float, float] = SECOND.betag_range,
        betap_range2: tuple[float, float] = SECOND.betap_range,
        resize_prob2: tuple[float, float, float] = SECOND.resize_prob,
        resize_range2: tuple[float, float] = SECOND.resize_range,
        gaussian_noise_prob2: float = SECOND.gaussian_noise_prob,
        noise_range2: tuple[float, float] = SECOND.noise_range,
        poisson_scale_range2: tuple[float, float] = SECOND.poisson_scale_range,
        gray_noise_prob2: float = SECOND.gray_noise_prob,
        jpeg_range2: tuple[int, int] = SECOND.jpeg_range,
        final_sinc_prob: float = SecondOrder.final_sinc_prob,
    ) -> None:
        given = dict(locals())  # all of them, by the names that `second_order` looks for
        self.check_options(given)
        self.degradation, self.gt_usm = second_order(given), gt_usm
        shared = (scale, gt_size, use_hflip, use_rot, meta_info_file, "{}", cache_dir, data_root)
        super().__init__(dataroot_gt, None, *shared)

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> None:
        """See `PairedImageDataset`."""
        if options.get("dataroot_lq") is not None:
            raise ValueError("dataroot_lq is not read by RealESRGANDataset, which degrades dataroot_gt; take it out")
        second_order(options)

    def crop_views(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random crop in a random symmetry: lq, degraded, and gt; (H, W, 3) uint8."""
        picture = self.symmetry(self.store.gt(index), *rng.random(3))
        side, room = self.gt_size // self.scale, _ROOM // self.scale
        region = picture[_window(picture, self.gt_size + room * self.scale, rng)]
        region = sharpened(region) if self.gt_usm else region
        lq = self.degradation(region, self.scale, rng)
        rows, columns = _window(lq, side, rng)
        gt = region[_scaled(rows, self.scale), _scaled(columns, self.scale)]
        return lq[rows, columns], gt


def _window(picture: np.ndarray, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random square of that side, or of as much of it as the picture has."""
    height, width = (min(side, have) for have in picture.shape[:2])
    top, left = rng.integers((picture.shape[0] - height, picture.shape[1] - width), endpoint=True)
    return slice(top, top + height), slice(left, left + width)


def _scaled(places: slice, scale: int) -> slice:
    return slice(places.start * scale, places.stop * scale)
