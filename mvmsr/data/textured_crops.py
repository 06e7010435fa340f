"""Crops with something to see: those of even sky or wall teach a judge of textures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mvmsr.data.batches import CropSource


def is_textured(gt: np.ndarray, least_gradient: float, least_variance: float) -> bool:
    """Whether a crop (H, W, 3) uint8 has enough of both; its levels count as [0, 1].

    The gradient is the mean squared horizontal difference plus the mean squared vertical one; the variance is that of
    all its values.

    >>> checks = np.indices((8, 8)).sum(0)[..., None] % 2 * np.full(3, 255, np.uint8)
    >>> is_textured(checks, 0.005, 0.03), is_textured(np.zeros((8, 8, 3), np.uint8), 0.005, 0.03)
    (True, False)
    """
    levels = gt.astype(np.float32) / 255
    if float(levels.var()) < least_variance:
        return False
    across, down = np.diff(levels, axis=1), np.diff(levels, axis=0)
    return float(np.square(across).mean() + np.square(down).mean()) >= least_gradient


class TexturedCrops:
    """Crops of some of a data set's pictures, drawn again until one is textured.

    Args:
        dataset: where crops come from.
        indices: the pictures to take.
        least_gradient, least_variance: see `is_textured`.
        attempts: crops to try; the last one is taken whatever it shows.

    Raises:
        ValueError: no pictures.

    Source: the thresholds 0.005 and 0.03 are those of https://github.com/JWSoh/NatSR, which does not say how its
        gradient is summed.
    """

    def __init__(
        self,
        dataset: CropSource,
        indices: Sequence[int],
        least_gradient: float = 0.005,
        least_variance: float = 0.03,
        attempts: int = 8,
    ) -> None:
        if not indices:
            raise ValueError("expected at least one image, got none")
        self.dataset, self.indices = dataset, list(indices)
        self.least_gradient, self.least_variance, self.attempts = least_gradient, least_variance, attempts
        self.scale, self.gt_size = dataset.scale, dataset.gt_size
        self.names = [dataset.names[index] for index in self.indices]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.indices)

    def crop_views(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """An aligned random crop: lq and gt, (H, W, 3) uint8."""
        for _ in range(self.attempts):
            lq, gt = self.dataset.crop_views(self.indices[index], rng)
            if is_textured(gt, self.least_gradient, self.least_variance):
                break
        return lq, gt
