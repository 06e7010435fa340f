"""Luma as the super-resolution literature measures it: MATLAB's `rgb2ycbcr`, ITU-R BT.601, studio range [16, 235].

Two conventions live side by side and differ by some thousandths of a dB: MATLAB on uint8 pictures rounds luma to
integers (VDSR, NatSR), MATLAB on double pictures does not (EDSR, RDN, BasicSR). OpenCV's YCrCb is full range and
neither of them.
"""

from __future__ import annotations

import numpy as np

# Thousandths of the weights, so that the rounding of uint8 pictures is exact integer arithmetic.
_RED, _GREEN, _BLUE = 65481, 128553, 24966
_DENOMINATOR = 255_000
_OFFSET = 16
_PIXELS_AT_ONCE = 1 << 16


def rgb_to_y(rgb: np.ndarray, round_y: bool) -> np.ndarray:
    """Luma of a uint8 RGB picture: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255.

    Args:
        rgb: (..., 3) uint8.
        round_y: round to the nearest integer, halves up, as MATLAB does for uint8 pictures.

    Returns:
        (...) float64 in [16, 235].

    Raises:
        TypeError: the picture is not uint8.
        ValueError: its last axis is not 3.

    >>> rgb_to_y(np.array([[[255, 255, 255], [1, 2, 3]]], dtype=np.uint8), round_y=True)
    array([[235.,  18.]])
    """
    _check_rgb("rgb_to_y", rgb)
    if rgb.ndim < 3:
        return _luma(rgb, round_y)
    luma = np.empty(rgb.shape[:-1])
    # A few rows at a time stay in the processor's cache; that is four times as fast as whole pictures.
    lines = max(1, _PIXELS_AT_ONCE // max(1, luma[:1].size))
    for start in range(0, len(rgb), lines):
        luma[start : start + lines] = _luma(rgb[start : start + lines], round_y)
    return luma


def _luma(rgb: np.ndarray, round_y: bool) -> np.ndarray:
    thousandths = rgb[..., 0].astype(np.int32)
    thousandths *= _RED
    for channel, weight in ((1, _GREEN), (2, _BLUE)):
        part = rgb[..., channel].astype(np.int32)
        part *= weight
        thousandths += part
    if round_y:
        # A quotient of such integers is an integer or far from one, so the division's rounding does not matter.
        return np.floor((thousandths + _DENOMINATOR // 2) / _DENOMINATOR) + _OFFSET
    return thousandths / _DENOMINATOR + _OFFSET


def rgb_to_gray(rgb: np.ndarray) -> np.ndarray:
    """MATLAB's `rgb2gray` of a uint8 picture: full-range BT.601, 0.2989 R + 0.5870 G + 0.1140 B, rounded.

    Args:
        rgb: (..., 3) uint8.

    Returns:
        (...) float64 of integers in [0, 255].

    Raises:
        TypeError, ValueError: as `rgb_to_y`.
    """
    _check_rgb("rgb_to_gray", rgb)
    # The first row of the inverse of NTSC's YIQ matrix, which rgb2gray normalises to sum to one.
    gray = rgb.astype(np.float64) @ np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
    return np.floor(gray + 0.5)


def _check_rgb(function: str, rgb: np.ndarray) -> None:
    if rgb.dtype != np.uint8:
        raise TypeError(f"{function}: expected uint8, got {rgb.dtype}; scale to [0, 255], round and convert first")
    if rgb.ndim == 0 or rgb.shape[-1] != 3:
        raise ValueError(f"{function}: expected (..., 3), got {rgb.shape}; replicate a grey image to three channels")
