"""NIQE's coefficients where a picture is flat: the rounding noise of the program that defined the scores.

A coefficient is a pixel minus the Gaussian mean around it. In flat areas, and wherever a window's values cancel, the
difference is zero but for rounding, about 1e-14; yet the fits count negative and positive values apart, so that the
noise's sign moves a whole picture's score by up to 0.4. It depends on how the mean is summed. The authors' MATLAB
release filters by `imfilter`, which separates the 7x7 window by singular value decomposition and convolves with the
column factor, then with the row factor. Here that sum is formed for those pixels alone, in an order and with a
rounding that are the same on every machine.

MATLAB's factors are not published, and their last bits decide. Those below are calibrated: the middle row of the
release's window over the root of its middle value, with two column taps one unit in the last place smaller, chosen
among such neighbours because they give the official scores of TID2013's distorted pictures (docs/metrics.md).
"""

from __future__ import annotations

import numpy as np

_HALF_COLUMN = ("0x1.9b92991f24881p-7", "0x1.42e11ca517a60p-4", "0x1.e5fb7c557fad0p-3", "0x1.5edacbc602378p-2")
_HALF_ROW = ("0x1.9b92991f24881p-7", "0x1.42e11ca517a60p-4", "0x1.e5fb7c557fad1p-3", "0x1.5edacbc602378p-2")
RADIUS = 3
_CHUNK = 1 << 15
"""Windows gathered at a time: 13 MB, whatever the picture is."""


def difference_from_mean(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Pixels minus their Gaussian means, rounded as described above, for pixels whose difference is next to nothing.

    Args:
        picture: (H, W) float64; its borders are replicated.
        rows, columns: (n,) places of the pixels.

    Returns:
        (n,) float64.
    """
    padded = np.pad(picture, RADIUS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * RADIUS + 1, 2 * RADIUS + 1))
    column, row = _factor(_HALF_COLUMN), _factor(_HALF_ROW)
    differences = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        window = windows[rows[part], columns[part]]  # (n, 7, 7)
        flat = (window == window[:, :1, :1]).all(axis=(1, 2))
        levels, level = np.unique(window[flat, 0, 0], return_inverse=True)  # one sum for all that lie on one level
        sums = np.concatenate([np.broadcast_to(levels[:, None, None], (len(levels), 7, 7)), window[~flat]])
        means = _convolve(_convolve(sums, column), row)
        mean = np.empty(len(window))
        mean[flat], mean[~flat] = means[: len(levels)][level], means[len(levels) :]
        differences[part] = window[:, RADIUS, RADIUS] - mean
    return differences


def _factor(half: tuple[str, ...]) -> list[float]:
    taps = [float.fromhex(text) for text in half]
    return taps + taps[-2::-1]


def _convolve(window: np.ndarray, taps: list[float]) -> np.ndarray:
    """(n, 7, ...) -> (n, ...): a convolution's terms from the last value to the first, by fused multiply-adds."""
    total = window[:, -1] * taps[0]
    for position, tap in enumerate(taps[1:], start=2):
        total = _fused(window[:, -position], tap, total)
    return total


def _fused(value: np.ndarray, factor: float, term: np.ndarray) -> np.ndarray:
    """value * factor + term rounded once: the product and the sum with their errors (Dekker 1971, Knuth 1969)."""
    product = value * factor
    value_high, value_low = _split(value)
    factor_high, factor_low = _split(np.asarray(factor))
    lost = value_high * factor_high - product + value_high * factor_low + value_low * factor_high
    lost += value_low * factor_low
    total = product + term
    added = total - product
    return total + (lost + ((product - (total - added)) + (term - added)))


def _split(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the mantissa, whose products are exact."""
    scaled = value * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - value)
    return high, value - high
