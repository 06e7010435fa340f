"""Noise of cameras: normal, as of their electronics, and Poisson, as of the light itself."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_DRAWS = 4096  # equally likely values that stand for a Poisson distribution; from 16 photons on, its variance to 0.3 %


def gaussian_noise(shape: tuple[int, ...], sigma: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """Normal noise of standard deviation `sigma` in levels of 255, for pictures of `shape` (H, W, 3).

    Returns:
        (H, W, 3) float32, or (H, W, 1) for `grey` noise, which is the same in all channels.
    """
    size = (*shape[:2], 1 if grey else shape[2])
    return rng.standard_normal(size, np.float32) * np.float32(sigma)


def poisson_noise(picture: np.ndarray, strength: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """Shot noise of a picture (H, W, 3) float32 in levels of 255, as strong as `strength` says.

    A level stands for `level / 255 * v` photons on average, v being the number of different levels in the picture,
    rounded up to a power of two: 256 for most photographs.

    Returns:
        As of `gaussian_noise`; for `grey` noise, from the picture's luma.
    """
    source = (picture @ _LUMA)[..., None] if grey else picture
    levels = (source + 0.5).clip(0, 255).astype(np.uint8)
    different = int(np.count_nonzero(np.bincount(levels.ravel(), minlength=256)))
    # Drawing from Poisson distributions takes 100 times as long as looking up one of their quantiles.
    draws = rng.integers(_DRAWS, size=levels.shape, dtype=np.uint16)
    return _noise_of_levels(1 << (different - 1).bit_length()).take(levels * np.intp(_DRAWS) + draws) * strength


@lru_cache  # of nine at the most, of 4 MiB each
def _noise_of_levels(photons: int) -> np.ndarray:
    """(256 * _DRAWS,) float32: for each level, as many equally likely values of its noise, in levels."""
    from scipy.special import pdtr

    levels = np.arange(256)[:, None]
    counts = np.arange(photons + 8 * int(photons**0.5) + 8)
    up_to = np.rint(pdtr(counts, levels / 255 * photons) * _DRAWS).astype(int)  # draws with at most so many photons
    noise = counts * (255 / photons) - levels
    return noise.astype(np.float32).repeat(np.diff(up_to, prepend=0, axis=1).ravel())
