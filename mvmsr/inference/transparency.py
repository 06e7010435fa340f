"""Colours under transparent pixels, which a network would otherwise smear into the visible ones."""

from __future__ import annotations

import numpy as np


def bleed_colours(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replaces the colour of fully transparent pixels by that of the visible ones around them.

    A pyramid of alpha-weighted means is built down to one pixel and read from the coarsest level up, so that each
    hidden pixel takes the finest mean that saw anything visible. Visible pixels stay as they are.

    Args:
        rgb: (H, W, 3), float.
        alpha: (H, W), 0 where transparent.

    Returns:
        (H, W, 3) of the same dtype; `rgb` itself where all or nothing is visible.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return rgb
    weight = alpha.astype(rgb.dtype)[..., None]
    filled = _fill(rgb * weight, weight)
    return np.where(hidden[..., None], filled, rgb)


def _fill(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted means, and where there is no weight, those of the next coarser level."""
    height, width = weight.shape[:2]
    if height * width == 1:
        return weighted / weight
    coarse = _fill(_halved(weighted), _halved(weight))
    coarse = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(weight > 0, weighted / np.where(weight > 0, weight, 1), coarse)


def _halved(values: np.ndarray) -> np.ndarray:
    """Sums of blocks of 2 x 2, the last ones smaller at odd sizes."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]
