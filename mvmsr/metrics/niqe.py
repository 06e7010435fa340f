"""NIQE of the LIVE release: how far a picture's local statistics lie from those of pristine photographs.

Source: Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE SPL 2013, and the
    behaviour of the authors' MATLAB release. MATLAB's built-in `niqe` uses another pristine model; its values are
    different quantities.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from mvmsr.color import rgb_to_gray, rgb_to_y
from mvmsr.data.imresize import imresize
from mvmsr.metrics.metric import Metric
from mvmsr.metrics.niqe_flat_areas import difference_from_mean
from mvmsr.metrics.protocol import Protocol, crop
from mvmsr.pretrained import locate
from mvmsr.registry import METRICS

BLOCK = 96
"""Side of the blocks, in pixels of the full-size picture, that statistics are fitted in."""
FEATURES = 36
ROUNDING_NOISE = 1e-10
"""Coefficients below this are noise; one grey level under the window's smallest weight gives about 1e-6."""
_BLOCKS_AT_ONCE = 4
"""A few blocks and their products stay in the processor's cache."""
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


class PristineModel(NamedTuple):
    """Mean (36,) and covariance (36, 36) of the features of undistorted photographs."""

    mean: np.ndarray
    covariance: np.ndarray


def load_pristine_model(path: Path) -> PristineModel:
    """The model in an npz file with `mu_pris_param` and `cov_pris_param`.

    Raises:
        ValueError: the file holds something else.
    """
    with np.load(path) as arrays:
        try:
            model = PristineModel(arrays["mu_pris_param"].reshape(-1), arrays["cov_pris_param"])
        except KeyError as error:
            raise ValueError(f"{path}: not a pristine model of NIQE, {error}") from error
    if model.mean.shape != (FEATURES,) or model.covariance.shape != (FEATURES, FEATURES):
        raise ValueError(f"{path}: expected {FEATURES} features, got {model.mean.shape} and {model.covariance.shape}")
    return model


def niqe(luma: np.ndarray, model: PristineModel) -> float:
    """Distance of a picture's features from the pristine model; lower is better.

    sqrt((m1 - m2)^T ((S1 + S2) / 2)^+ (m1 - m2)), equation 10, over the blocks of 96x96 pixels from the top left.

    Args:
        luma: (H, W) in [0, 255], whole numbers in the release.

    Returns:
        nan where the picture has fewer than two whole blocks to take a covariance of.
    """
    features = block_features(luma)
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        return math.nan
    difference = model.mean - np.nanmean(features, axis=0)
    pooled = (model.covariance + np.cov(complete, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def block_features(luma: np.ndarray) -> np.ndarray:
    """The 18 features of every whole block at full and at half size: (blocks, 36), column by column as MATLAB does.

    A feature is nan where a block has no negative or no positive values to fit (flat areas).
    """
    rows, columns = luma.shape[0] // BLOCK, luma.shape[1] // BLOCK
    picture = luma[: rows * BLOCK, : columns * BLOCK].astype(np.float64)
    scales = []
    for side in (BLOCK, BLOCK // 2):
        normalised = normalise(picture)
        blocks = normalised.reshape(rows, side, columns, side).transpose(2, 0, 1, 3).reshape(-1, side, side)
        scales.append(_features(blocks))
        if side == BLOCK:
            picture = imresize(picture, scale=0.5)
    return np.concatenate(scales, axis=1)


def normalise(picture: np.ndarray) -> np.ndarray:
    """Mean-subtracted, contrast-normalised coefficients (x - mean) / (deviation + 1), equation 1.

    Mean and deviation are those of a 7x7 Gaussian window of sigma 7/6 with replicated borders.
    """
    mean = _smooth(picture)
    deviation = np.sqrt(np.abs(_smooth(picture * picture) - mean * mean))
    coefficients = (picture - mean) / (deviation + 1)
    # Where only rounding noise is left, scores depend on its sign, and that on the order of summation.
    noisy = np.nonzero(np.abs(coefficients) < ROUNDING_NOISE)
    if len(noisy[0]):
        coefficients[noisy] = difference_from_mean(picture, *noisy)
    return coefficients


def _smooth(picture: np.ndarray) -> np.ndarray:
    import cv2

    offsets = np.arange(-3, 4)
    taps = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    taps /= taps.sum()
    return cv2.sepFilter2D(picture, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_REPLICATE)


def _features(blocks: np.ndarray) -> np.ndarray:
    """(B, side, side) -> (B, 18): shape and spread of the values, and of their products with four neighbours."""
    from scipy.special import gamma

    count, side, _ = blocks.shape
    moments = np.empty((1 + len(SHIFTS), count, 5))
    for start in range(0, count, _BLOCKS_AT_ONCE):
        part = slice(start, start + _BLOCKS_AT_ONCE)
        values = np.ascontiguousarray(blocks[part])
        moments[0, part] = _moments(values.reshape(-1, side * side))
        for number, shift in enumerate(SHIFTS, start=1):
            products = values * np.roll(values, shift, axis=(1, 2))
            moments[number, part] = _moments(products.reshape(-1, side * side))
    alpha, left, right = _fit(moments[0], side * side)
    columns = [alpha, (left + right) / 2]
    for number in range(1, len(moments)):
        alpha, left, right = _fit(moments[number], side * side)
        columns += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
    return np.stack(columns, axis=1)


@lru_cache(maxsize=1)
def _shape_table() -> tuple[np.ndarray, np.ndarray]:
    """The shapes that a fit chooses from, and the moment ratio of each."""
    from scipy.special import gamma

    shapes = np.arange(200, 10001) / 1000
    return shapes, gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))


def _moments(values: np.ndarray) -> np.ndarray:
    """(B, n) -> (B, 5): how many are negative and positive, the sums of their squares, the sum of all magnitudes."""
    positive = np.maximum(values, 0)
    negative = positive - values
    return np.stack(
        [
            [np.count_nonzero(row) for row in values < 0],  # several times as fast as with an axis
            [np.count_nonzero(row) for row in values > 0],
            np.einsum("bn,bn->b", negative, negative),
            np.einsum("bn,bn->b", positive, positive),
            negative.sum(axis=1) + positive.sum(axis=1),
        ],
        axis=1,
    )


def _fit(moments: np.ndarray, values_per_row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Asymmetric generalised Gaussians fitted by `_moments` (B, 5): shape, left and right scale, (B,) each.

    Rows without negative or without positive values get nan scales and shape 0.2, as MATLAB's `min` over nan takes the
    first entry.
    """
    from scipy.special import gamma

    shapes, ratios = _shape_table()
    negatives, positives, left_squares, right_squares, magnitudes = moments.T
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = np.sqrt(left_squares / negatives), np.sqrt(right_squares / positives)
        skew = left / right
        ratio = (magnitudes / values_per_row) ** 2 / ((left_squares + right_squares) / values_per_row)
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    alpha = shapes[_nearest(ratios, ratio)]
    spread = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, left * spread, right * spread


def _nearest(ascending: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the entry nearest to each wanted value, the lower one at a tie; 0 for nan."""
    above = np.clip(np.searchsorted(ascending, wanted), 1, len(ascending) - 1)
    lower_is_nearer = wanted - ascending[above - 1] <= ascending[above] - wanted
    return np.where(np.isnan(wanted), 0, np.where(lower_is_nearer, above - 1, above))


@METRICS.register("niqe")
class Niqe(Metric):
    """NIQE of the whole picture; lower is better, no original needed.

    The protocol's colour does not apply. Its border does not either unless `crop_border` is given: the release
    scores whole pictures.

    Args:
        luma: `gray` is the release's own conversion (MATLAB's `rgb2gray`); `y` is what BasicSR feeds it, studio-range
            luma rounded to integers, whose values differ by some tenths.
        crop_border: pixels left out at each side.
        weights_dir: where to look for `niqe_pris_params.npz` first.

    Raises:
        MissingWeights: the pristine model is nowhere on this machine.
        ValueError: an unknown `luma`.
    """

    higher_is_better = False
    needs_gt = False
    why_nan = f"fewer than two blocks of {BLOCK}x{BLOCK} px have texture, the others are flat"

    def __init__(
        self, luma: Literal["gray", "y"] = "gray", crop_border: int = 0, weights_dir: str | Path | None = None
    ) -> None:
        if luma not in ("gray", "y"):
            raise ValueError(f"niqe: luma is {luma!r}; use 'gray' (the LIVE release) or 'y' (BasicSR)")
        self.name = ("niqe" if luma == "gray" else "niqe_y") + (f"_crop{crop_border}" if crop_border else "")
        self.luma = luma
        self.crop_border = crop_border
        self.model = load_pristine_model(locate("niqe", weights_dir=weights_dir))

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """NIQE of `sr` (H, W, 3) uint8; `gt` is not looked at. nan where `limitation` gives a reason."""
        if self.limitation(sr.shape[0], sr.shape[1], protocol) is not None:
            return math.nan
        picture = crop(sr, self.crop_border)
        return niqe(rgb_to_gray(picture) if self.luma == "gray" else rgb_to_y(picture, round_y=True), self.model)

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size has no NIQE."""
        rows, columns = ((side - 2 * self.crop_border) // BLOCK for side in (height, width))
        if min(rows, columns) < 1 or rows * columns < 2:
            return f"NIQE needs two whole blocks of {BLOCK}x{BLOCK} px; the image is {width}x{height}"
        return None
