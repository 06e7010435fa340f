"""Training pairs whose low-quality side is blurred, noisy and compressed as well as small."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvmsr.data.degradation import Degradation
from mvmsr.data.paired_dataset import PairedImageDataset
from mvmsr.registry import DATASETS


@DATASETS.register()
class DegradedImageDataset(PairedImageDataset):
    """`PairedImageDataset`, where every low-quality crop is degraded in a way of its own (see `Degradation`).

    Strengths are drawn from the crop's own generator, so a run that is continued sees what it would have seen.

    Args:
        dataroot_gt, dataroot_lq, scale, gt_size, use_hflip, use_rot, meta_info_file, filename_tmpl, cache_dir,
            data_root: as of `PairedImageDataset`.
        blur, noise, jpeg, prob: as of `Degradation`; a blur is measured in pixels of the low-quality picture.

    Raises:
        LayoutError, PairError, ValueError: as `PairedImageDataset` and `Degradation`.
    """

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
        blur: tuple[float, float] | None = Degradation.blur,
        noise: tuple[float, float] | None = Degradation.noise,
        jpeg: tuple[int, int] | None = Degradation.jpeg,
        prob: float = Degradation.prob,
    ) -> None:
        self.degradation = Degradation(blur, noise, jpeg, prob)
        super().__init__(
            dataroot_gt,
            dataroot_lq,
            scale,
            gt_size,
            use_hflip,
            use_rot,
            meta_info_file,
            filename_tmpl,
            cache_dir,
            data_root,
        )

    @staticmethod
    def check_options(options: Mapping[str, Any]) -> None:
        """See `PairedImageDataset`."""
        Degradation(**{name: options[name] for name in ("blur", "noise", "jpeg", "prob") if name in options})

    def crop_views(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The crop that `PairedImageDataset` would cut, its low-quality side degraded."""
        lq, gt = super().crop_views(index, rng)
        return self.degradation(lq, rng), gt
