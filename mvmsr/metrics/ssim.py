"""Structural similarity.

SSIM = (2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1^2 + s2^2 + C2)) with the means m, variances s^2 and
covariance s12 under an 11x11 Gaussian window of sigma 1.5, C1 = (0.01 L)^2, C2 = (0.03 L)^2.

Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from mvmsr.metrics.metric import FidelityMetric
from mvmsr.metrics.protocol import Protocol
from mvmsr.registry import METRICS

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
TILE_HEIGHT, TILE_WIDTH = 128, 256


def ssim(
    first: np.ndarray,
    second: np.ndarray,
    window: Literal["valid", "zero_pad"] = "valid",
    data_range: float = 255.0,
) -> float:
    """Mean SSIM over the map and the planes.

    Args:
        first, second: (C, H, W) in [0, data_range], of any real type; computed in float64.
        window: `valid` takes the positions where the whole window fits; `zero_pad` takes every position, with
            zeros outside, which favours both pictures alike at the border and gives higher values.

    Raises:
        ValueError: the shapes differ or are not (C, H, W), or a side is shorter than the window.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"ssim: expected two arrays (C, H, W) of one shape, got {first.shape} and {second.shape}")
    if window not in ("valid", "zero_pad"):
        raise ValueError(f"ssim: window is {window!r}; use 'valid' or 'zero_pad'")
    if window == "valid" and min(first.shape[1:]) < WINDOW_SIZE:
        raise ValueError(
            f"ssim: {first.shape[2]}x{first.shape[1]} pixels are fewer than the {WINDOW_SIZE}x{WINDOW_SIZE} window"
        )
    margin = WINDOW_SIZE // 2
    # Given another type, OpenCV leaves the memory it should write to as it is.
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    means = []
    for one, other in zip(first, second, strict=True):
        if window == "zero_pad":
            means.append(_mean_ssim(np.pad(one, margin), np.pad(other, margin), data_range))
        else:
            means.append(_mean_ssim(one, other, data_range))
    return float(np.mean(means))


def _mean_ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> float:
    """Over all positions where the whole window fits: (H, W) twice -> a scalar.

    Tile by tile in the same memory: six maps of a tile stay in the processor's cache, those of a picture do not.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    around = WINDOW_SIZE - 1
    height, width = first.shape[0] - around, first.shape[1] - around
    memory = np.empty((6, (min(TILE_HEIGHT, height) + around) * (min(TILE_WIDTH, width) + around)))
    total = 0.0
    for top in range(0, height, TILE_HEIGHT):
        rows = slice(top, min(top + TILE_HEIGHT, height) + around)
        for left in range(0, width, TILE_WIDTH):
            columns = slice(left, min(left + TILE_WIDTH, width) + around)
            total += _sum_of_ssim(first[rows, columns], second[rows, columns], memory, c1, c2)
    return total / (height * width)


def _sum_of_ssim(first: np.ndarray, second: np.ndarray, memory: np.ndarray, c1: float, c2: float) -> float:
    """Over one tile, by sum s and difference d of the two, in which the formula takes fewer steps.

    4 m1 m2 = ms^2 - md^2, 2 (m1^2 + m2^2) = ms^2 + md^2, and the same holds for covariance and variances.
    """
    import cv2

    total, difference, squares, other_squares, mean, other_mean = (
        part[: first.size].reshape(first.shape) for part in memory
    )
    cv2.add(first, second, dst=total)
    cv2.subtract(first, second, dst=difference)
    np.multiply(total, total, out=squares)
    np.multiply(difference, difference, out=other_squares)
    mean, other_mean = _smooth(total, mean), _smooth(difference, other_mean)
    spread, other_spread = _smooth(squares, total), _smooth(other_squares, difference)
    mean *= mean
    other_mean *= other_mean
    spread -= mean
    other_spread -= other_mean
    similarity = np.asarray(cv2.addWeighted(mean, 0.5, other_mean, -0.5, c1))
    similarity *= np.asarray(cv2.addWeighted(spread, 0.5, other_spread, -0.5, c2))
    largest = np.asarray(cv2.addWeighted(mean, 0.5, other_mean, 0.5, c1))
    largest *= np.asarray(cv2.addWeighted(spread, 0.5, other_spread, 0.5, c2))
    return float(np.divide(similarity, largest, out=similarity).sum())


def _smooth(tile: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The window's weighted mean where it fits, within `out`: separable, 22 multiplications a pixel instead of 121."""
    import cv2

    taps, margin = _taps(), WINDOW_SIZE // 2
    cv2.sepFilter2D(tile, cv2.CV_64F, taps, taps, dst=out, borderType=cv2.BORDER_CONSTANT)
    return out[margin:-margin, margin:-margin]


@lru_cache(maxsize=1)
def _taps() -> np.ndarray:
    import cv2

    return cv2.getGaussianKernel(WINDOW_SIZE, WINDOW_SIGMA, cv2.CV_64F)


@METRICS.register("ssim")
class Ssim(FidelityMetric):
    """SSIM on the protocol's planes, averaged over them; higher is better, equal pictures give 1."""

    name = "ssim"
    higher_is_better = True

    def compare(self, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        """SSIM of planes (C, H, W) in [0, 255]."""
        return ssim(sr, gt, protocol.ssim_window)

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size has no SSIM under the protocol."""
        if protocol.ssim_window == "valid" and min(height, width) - 2 * protocol.crop_border < WINDOW_SIZE:
            return f"SSIM needs {WINDOW_SIZE} px a side after cropping; the image is {width}x{height}"
        return super().limitation(height, width, protocol)
