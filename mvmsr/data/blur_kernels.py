"""Kernels by which photographs are blurred: Gaussians of several shapes, and sinc filters, which ring at edges.

Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCVW 2021,
    sections 3.2 and 3.4; generalized Gaussians and plateaus after Liu et al., "Estimating Generalized Gaussian Blur
    Kernels for Out-of-Focus Image Deblurring", 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

KERNELS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
SMALLEST = 7
_ROOM_FOR_LOW = 13  # from this size on, a sinc's cutoff may go below pi / 3


def gaussian(size: int, sigmas: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> np.ndarray:
    """(size, size) kernel `exp(-d**beta / 2)` that sums to 1, d being the squared distance in standard deviations.

    Args:
        size: side in pixels, odd.
        sigmas: standard deviations in pixels along the two axes; the first one's is turned by `angle` (radians).
        beta: 1 makes a Gaussian; less a sharper peak with longer tails, more a flatter top.
    """
    return _summing_to_one(np.exp(-0.5 * _distance(size, sigmas, angle) ** beta))


def plateau(size: int, sigmas: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> np.ndarray:
    """(size, size) kernel `1 / (1 + d**beta)` that sums to 1; arguments as of `gaussian`."""
    return _summing_to_one(1 / (1 + _distance(size, sigmas, angle) ** beta))


def sinc(size: int, cutoff: float) -> np.ndarray:
    """(size, size) kernel of the ideal low-pass filter that keeps frequencies below `cutoff` radians a pixel."""
    from scipy.special import j1

    radius = np.sqrt(_distance(size, (1, 1), 0))
    radius[size // 2, size // 2] = 1  # any but 0; the limit there is set below
    kernel = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _summing_to_one(kernel)


def random_sinc(size: int, rng: np.random.Generator, lowest: float = math.pi / 3) -> np.ndarray:
    """A sinc filter of that size whose cutoff is drawn from `lowest` to pi."""
    return sinc(size, rng.uniform(lowest, math.pi))


def random_size(largest: int, rng: np.random.Generator) -> int:
    """One of 7, 9, ... `largest`."""
    return SMALLEST + 2 * int(rng.integers((largest - SMALLEST) // 2, endpoint=True))


def random_kernel(
    rng: np.random.Generator,
    largest: int,
    kinds: Sequence[str],
    probs: Sequence[float],
    sinc_prob: float,
    sigma: tuple[float, float],
    betag: tuple[float, float],
    betap: tuple[float, float],
) -> np.ndarray:
    """A kernel of random size (7 to `largest`), kind and shape, summing to 1.

    Args:
        kinds, probs: names from `KERNELS`, and how often each is drawn.
        sinc_prob: how often it is a sinc filter instead.
        sigma: least and largest standard deviation.
        betag, betap: least and largest shape of generalized Gaussians and of plateaus; half of them are below 1, if
            the range allows it.
    """
    size = random_size(largest, rng)
    if rng.random() < sinc_prob:
        return random_sinc(size, rng, math.pi / (5 if size >= _ROOM_FOR_LOW else 3))
    kind = str(rng.choice(list(kinds), p=list(probs)))
    across = rng.uniform(*sigma)
    sigmas, angle = (across, across), 0.0
    if kind.endswith("aniso"):
        sigmas, angle = (across, rng.uniform(*sigma)), rng.uniform(-math.pi, math.pi)
    if kind.startswith("plateau"):
        return plateau(size, sigmas, angle, _shape(betap, rng))
    return gaussian(size, sigmas, angle, _shape(betag, rng) if kind.startswith("generalized") else 1.0)


def filtered(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 convolved with a kernel of odd side; edges are mirrored about the outermost pixels."""
    import cv2
    from scipy import fft

    reach, (height, width) = len(kernel) // 2, picture.shape[:2]
    wide = cv2.copyMakeBorder(picture, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    # By Fourier transforms: a tenth of the time of OpenCV's `filter2D` from 13 pixels on.
    size = [fft.next_fast_len(side, real=True) for side in wide.shape[:2]]
    transformed = fft.rfft2(wide.transpose(2, 0, 1), size) * fft.rfft2(kernel.astype(np.float32), size)
    planes = fft.irfft2(transformed, size)[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def _shape(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """From below 1 and from above 1 equally often, as far as the limits go."""
    low, high = limits
    middle = min(max(1.0, low), high)
    return rng.uniform(low, middle) if rng.random() < 0.5 else rng.uniform(middle, high)


def _distance(size: int, sigmas: tuple[float, float], angle: float) -> np.ndarray:
    """(size, size) squared distances from the middle, in standard deviations along the turned axes."""
    y, x = np.mgrid[:size, :size] - size // 2
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return (along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2


def _summing_to_one(kernel: np.ndarray) -> np.ndarray:
    return kernel / kernel.sum()
