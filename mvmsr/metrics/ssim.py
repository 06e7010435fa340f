"""Structural similarity.

SSIM = (2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1^2 + s2^2 + C2)) with the means m, variances s^2 and
covariance s12 under an 11x11 Gaussian window of sigma 1.5, C1 = (0.01 L)^2, C2 = (0.03 L)^2.

Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mvmsr.metrics.metric import FidelityMetric
from mvmsr.metrics.protocol import Protocol
from mvmsr.registry import METRICS

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5


def ssim(
    first: np.ndarray,
    second: np.ndarray,
    window: Literal["valid", "zero_pad"] = "valid",
    data_range: float = 255.0,
) -> float:
    """Mean SSIM over the map and the planes.

    Args:
        first, second: (C, H, W) in [0, data_range].
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
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # One plane at a time: five float64 maps of a plane stay in the processor's cache far longer than fifteen.
    return float(np.mean([_ssim_map(a, b, window, c1, c2).mean() for a, b in zip(first, second, strict=True)]))


def _ssim_map(first: np.ndarray, second: np.ndarray, window: str, c1: float, c2: float) -> np.ndarray:
    mean1, mean2 = _smooth(first, window), _smooth(second, window)
    squared_means = mean1 * mean1 + mean2 * mean2
    product_of_means = mean1 * mean2
    covariance = _smooth(first * second, window) - product_of_means
    # Only the sum of the variances enters, so one smoothing does for both.
    variances = _smooth(first * first + second * second, window) - squared_means
    similarity = (2 * product_of_means + c1) * (2 * covariance + c2)
    similarity /= (squared_means + c1) * (variances + c2)
    return similarity


def _smooth(plane: np.ndarray, window: str) -> np.ndarray:
    """The window's weighted mean at every position: separable, 22 multiplications a pixel instead of 121."""
    import cv2

    margin = WINDOW_SIZE // 2
    taps = cv2.getGaussianKernel(WINDOW_SIZE, WINDOW_SIGMA, cv2.CV_64F)
    smooth = cv2.sepFilter2D(plane, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_CONSTANT)
    return smooth if window == "zero_pad" else smooth[margin:-margin, margin:-margin]


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
            return f"SSIM needs {WINDOW_SIZE} px a side after cropping; the picture is {width}x{height}"
        return None
