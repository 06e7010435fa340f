"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np

from mvmsr.metrics.metric import FidelityMetric
from mvmsr.metrics.protocol import Protocol
from mvmsr.registry import METRICS

_VALUES_AT_ONCE = 1 << 16
"""As many as stay in the processor's cache."""


def psnr(first: np.ndarray, second: np.ndarray, data_range: float = 255.0) -> float:
    """10 log10(data_range^2 / MSE) in dB, over all elements; infinite for equal arrays.

    Args:
        first, second: arrays of one shape, in [0, data_range].

    Raises:
        ValueError: the shapes differ, or there are no elements.

    >>> round(psnr(np.zeros((2, 2)), np.full((2, 2), 25.5)), 6)
    20.0
    """
    if first.shape != second.shape:
        raise ValueError(f"psnr: shapes differ, {first.shape} and {second.shape}")
    if first.size == 0:
        raise ValueError(f"psnr: the arrays are empty, {first.shape}")
    squares = 0.0
    a, b = np.asarray(first).reshape(-1), np.asarray(second).reshape(-1)
    for start in range(0, a.size, _VALUES_AT_ONCE):
        part = slice(start, start + _VALUES_AT_ONCE)
        difference = np.subtract(a[part], b[part], dtype=np.float64)
        squares += float(np.einsum("i,i->", difference, difference))
    mse = squares / a.size
    return math.inf if mse == 0 else 10 * math.log10(data_range**2 / mse)


@METRICS.register("psnr")
class Psnr(FidelityMetric):
    """PSNR in dB on the protocol's planes; higher is better, equal pictures give infinity."""

    name = "psnr"
    higher_is_better = True
    decimals = 2

    def compare(self, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        """PSNR of planes (C, H, W) in [0, 255]."""
        return psnr(sr, gt)
