"""The SSIMs that papers mean: one formula, several windows and borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mvmsr.metrics.protocol import crop

SSIM_VARIANTS = {
    "gaussian": "11x11 Gaussian where it fits (ssim.m of Wang et al., BasicSR)",
    "gaussian, zero-padded": "11x11 Gaussian everywhere, zeros outside (pytorch-ssim)",
    "gaussian, replicated": "11x11 Gaussian everywhere, edge pixels repeated (MATLAB's ssim)",
    "gaussian, downsampled": "ssim.m after shrinking by round(shorter side / 256), as its authors advise",
    "uniform 7x7": "scikit-image's default",
    "uniform 7x7, range 2": "scikit-image's default on images in [0, 1] whose range it takes for [-1, 1]",
}
"""What each variant is."""
SMALLEST = 11

_Smooth = Callable[[np.ndarray], np.ndarray]


def ssim_variants(first: np.ndarray, second: np.ndarray, borders: Sequence[int]) -> dict[tuple[int, str], float]:
    """SSIM by border and variant, averaged over the planes.

    The variants whose windows lie inside the picture are smoothed once for all borders, as cropping a picture crops
    their map.

    Args:
        first, second: (C, H, W) float64 in [0, 255], not yet cropped.
        borders: pixels to leave out at each side; those that leave less than `SMALLEST` pixels are skipped.
    """
    sides = first.shape[1:]
    fitting = [border for border in borders if min(sides) - 2 * border >= SMALLEST]
    sums: dict[tuple[int, str], float] = {}
    for a, b in zip(first, second, strict=True):
        inside = {"gaussian": (5, _map(a, b, _gaussian("constant"), 255.0))}
        correction = 49 / 48  # scikit-image divides variances by n - 1
        inside["uniform 7x7"] = (3, _map(a, b, _uniform, 255.0, correction))
        inside["uniform 7x7, range 2"] = (3, _map(a, b, _uniform, 2.0 * 255.0, correction))
        for border in fitting:
            values = {name: crop(whole, border + margin).mean() for name, (margin, whole) in inside.items()}
            cropped = crop(a, border), crop(b, border)
            values["gaussian, zero-padded"] = _map(*cropped, _gaussian("constant"), 255.0).mean()
            values["gaussian, replicated"] = _map(*cropped, _gaussian("replicate"), 255.0).mean()
            factor = max(1, int(np.floor(min(cropped[0].shape) / 256 + 0.5)))
            if factor == 1:
                values["gaussian, downsampled"] = values["gaussian"]
            else:
                small = _shrink(cropped[0], factor), _shrink(cropped[1], factor)
                values["gaussian, downsampled"] = crop(_map(*small, _gaussian("constant"), 255.0), 5).mean()
            for name, value in values.items():
                sums[border, name] = sums.get((border, name), 0.0) + float(value)
    return {key: total / len(first) for key, total in sums.items()}


def _map(a: np.ndarray, b: np.ndarray, smooth: _Smooth, data_range: float, correction: float = 1.0) -> np.ndarray:
    """SSIM at every pixel: the formula of `mvmsr.metrics.ssim` for any window."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    covariance = correction * (smooth(a * b) - product)
    variances = correction * (smooth(a * a + b * b) - squares)
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def _gaussian(border: str) -> _Smooth:
    import cv2

    taps = cv2.getGaussianKernel(11, 1.5, cv2.CV_64F)
    kind = cv2.BORDER_CONSTANT if border == "constant" else cv2.BORDER_REPLICATE
    return lambda plane: cv2.sepFilter2D(np.ascontiguousarray(plane), cv2.CV_64F, taps, taps, borderType=kind)


def _uniform(plane: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.blur(plane, (7, 7))


def _shrink(plane: np.ndarray, factor: int) -> np.ndarray:
    """Every `factor`-th pixel of the box mean, with mirrored borders."""
    import cv2

    box = np.full((factor, factor), 1 / factor**2)
    return np.ascontiguousarray(cv2.filter2D(plane, cv2.CV_64F, box, borderType=cv2.BORDER_REFLECT)[::factor, ::factor])
