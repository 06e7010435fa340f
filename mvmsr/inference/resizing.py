"""Bicubic resizing of a picture that comes, and leaves, in strips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from mvmsr.data.imresize import imresize, taps

_BLOCK = 64
_CUT = 64


def resize_strips(
    strips: Iterable[np.ndarray], size: tuple[int, int], output_size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """`imresize(picture, output_size=...)` for a floating-point picture given and returned as strips of rows.

    Args:
        strips: (rows, W) or (rows, W, C), from the top, of any height.
        size: (H, W) of them together.

    Yields:
        (rows, *output_size[1:], ...) float32; not clipped.
    """
    height, width = size
    indices, weights = taps(height, output_size[0], output_size[0] / height)
    first, last = indices.min(axis=1), indices.max(axis=1)  # mirrored borders leave the first of them ascending
    held: np.ndarray | None = None
    start = done = 0
    for strip in low_strips(strips):
        rows = _wide(strip, width, output_size[1])
        held = rows if held is None else np.concatenate([held, rows])
        available = start + len(held)
        while done < output_size[0]:
            stop = min(done + _BLOCK, output_size[0])
            if last[done:stop].max() >= available:
                break
            yield _block(held, indices[done:stop] - start, weights[done:stop])
            done = stop
        keep = int(first[done]) if done < output_size[0] else available
        held = held[min(keep, available) - start :].copy()
        start = min(keep, available)
        del strip, rows  # their names would hold a whole strip while the next one is computed


def low_strips(strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The strips in strips of few rows, for what takes several times as much memory as it is given."""
    for strip in strips:
        yield from cut(strip)
        del strip  # as above


def _wide(strip: np.ndarray, width: int, wanted: int) -> np.ndarray:
    strip = strip.astype(np.float32, copy=False)
    return strip if width == wanted else imresize(strip, output_size=(len(strip), wanted))


def _block(rows: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows mixed by a small dense matrix, as few inputs as the block reads."""
    low, high = int(indices.min()), int(indices.max()) + 1
    matrix = np.zeros((len(indices), high - low), np.float32)
    np.add.at(matrix, (np.arange(len(indices))[:, None], indices - low), weights.astype(np.float32))
    mixed = matrix @ rows[low:high].reshape(high - low, -1)
    return mixed.reshape(len(indices), *rows.shape[1:])


class Rows:
    """Strips of any height, taken in strips of the heights that are asked for."""

    def __init__(self, strips: Iterator[np.ndarray]) -> None:
        self._strips = strips
        self._held: list[np.ndarray] = []

    def take(self, count: int) -> np.ndarray:
        """The next `count` rows."""
        while sum(map(len, self._held)) < count:
            self._held.append(next(self._strips))
        rows = np.concatenate(self._held)
        self._held = [rows[count:]]
        return rows[:count]


def cut(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array as strips of rows."""
    for start in range(0, len(array), _CUT):
        yield array[start : start + _CUT]
