from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.special import gamma

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.data.imresize import imresize
from mvmsr.metrics import Niqe, build_metric, make_protocol
from mvmsr.metrics.niqe import (
    BLOCK,
    PristineModel,
    _fit,
    _moments,
    block_features,
    load_pristine_model,
    niqe,
    normalise,
)
from mvmsr.metrics.niqe_flat_areas import _HALF_COLUMN, _HALF_ROW, _factor, difference_from_mean

PROTOCOL = make_protocol("y", 4)


def texture(seed: int = 0, height: int = 192, width: int = 288) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3))
    noisy = np.kron(coarse, np.ones((8, 8, 1))) * 0.7 + rng.normal(30, 15, (height, width, 3))
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def fit_by_loops(values: np.ndarray) -> tuple[float, float, float]:
    left = math.sqrt(np.mean([v * v for v in values if v < 0]))
    right = math.sqrt(np.mean([v * v for v in values if v > 0]))
    skew = left / right
    ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    best = min(
        (k / 1000 for k in range(200, 10001)),
        key=lambda a: (gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) - ratio) ** 2,
    )
    spread = math.sqrt(gamma(1 / best) / gamma(3 / best))
    return best, left * spread, right * spread


def fit_aggd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _fit(_moments(values), values.shape[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fit_equals_loops(seed: int) -> None:
    values = np.random.default_rng(seed).laplace(0.3 * seed, 1, 400)
    assert [float(a[0]) for a in fit_aggd(values[None])] == pytest.approx(fit_by_loops(values), rel=1e-12)


def test_fit_recovers_a_gaussian() -> None:
    values = np.random.default_rng(0).normal(0, 2, (1, 200_000))
    alpha, left, right = (float(a[0]) for a in fit_aggd(values))
    assert alpha == pytest.approx(2, abs=0.05)
    assert left == pytest.approx(2 * math.sqrt(2), rel=0.02)  # exp(-(x / beta)^2) has beta = sigma sqrt 2
    assert right == pytest.approx(left, rel=0.02)


def test_fit_of_flat_and_one_sided_rows() -> None:
    alpha, left, right = fit_aggd(np.array([[0.0, 0, 0], [1, 2, 3]]))
    assert alpha.tolist() == [0.2, 0.2]
    assert np.isnan(left).all()
    assert np.isnan(right[0])


def test_normalise_against_a_full_window() -> None:
    picture = texture(3)[:20, :24, 0].astype(float)
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    padded = np.pad(picture, 3, mode="edge")
    expected = np.empty_like(picture)
    for i, j in np.ndindex(*picture.shape):
        around = padded[i : i + 7, j : j + 7]
        mean = (window * around).sum()
        deviation = math.sqrt((window * (around - mean) ** 2).sum())
        expected[i, j] = (picture[i, j] - mean) / (deviation + 1)
    assert np.abs(normalise(picture) - expected).max() < 1e-9


def test_flat_areas_keep_noise_alone() -> None:
    picture = np.full((96, 96), 173.0)
    picture[:, 60:] = 31
    coefficients = normalise(picture)
    assert np.abs(coefficients[:, :57]).max() < 1e-13
    assert np.abs(coefficients[:, 63:]).max() < 1e-13
    assert np.abs(coefficients[:, 57:63]).min() > 1e-5


def test_signs_of_the_noise_are_those_behind_the_official_scores() -> None:
    """Six flat levels of TID2013's I08: of all 729 combinations of signs, this one gives the official score."""
    for level, sign in {162: -1, 140: -1, 87: -1, 85: 0, 103: 0, 74: -1}.items():
        noise = difference_from_mean(np.full((9, 9), float(level)), np.arange(9), np.arange(9))
        assert np.sign(noise).tolist() == [sign] * 9


def test_noise_is_that_of_fused_multiply_adds() -> None:
    rng = np.random.default_rng(0)
    picture = 248 + np.pad(rng.integers(0, 2, (4, 5)), 2).astype(float)
    rows, columns = np.indices(picture.shape).reshape(2, -1)
    column, row = (_factor(half) for half in (_HALF_COLUMN, _HALF_ROW))
    padded = np.pad(picture, 3, mode="edge")

    def convolve(values: list[float], taps: list[float]) -> float:
        total = Fraction(0)
        for value, tap in zip(reversed(values), taps, strict=True):
            total = Fraction(float(total + Fraction(value) * Fraction(tap)))  # rounded once
        return float(total)

    expected = []
    for i, j in zip(rows, columns, strict=True):
        window = padded[i : i + 7, j : j + 7]
        mean = convolve([convolve(window[:, k].tolist(), column) for k in range(7)], row)
        expected.append(picture[i, j] - mean)
    assert difference_from_mean(picture, rows, columns).tolist() == expected


def test_features_equal_a_plain_implementation() -> None:
    luma = texture(7, 96, 192)[..., 0].astype(float)
    expected = []
    for start in (0, 96):
        features: list[float] = []
        for side, picture in ((96, luma), (48, imresize(luma, scale=0.5))):
            block = normalise(picture)[:, start * side // 96 : start * side // 96 + side]
            alpha, left, right = fit_by_loops(block.ravel())
            features += [alpha, (left + right) / 2]
            for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                alpha, left, right = fit_by_loops((block * np.roll(block, shift, (0, 1))).ravel())
                features += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
        expected.append(features)
    assert block_features(luma) == pytest.approx(np.array(expected), rel=1e-10)


def test_blocks_are_cut_from_the_top_left_and_listed_by_columns() -> None:
    luma = texture(4, 208, 296)[..., 1].astype(float)
    features = block_features(luma)
    assert features.shape == (6, 36)
    assert np.array_equal(features, block_features(luma[: 2 * BLOCK, : 3 * BLOCK]))
    changed = luma.copy()
    changed[BLOCK + 20 : BLOCK + 60, 20:60] = 0  # second block of the first column
    differing = ~np.all(block_features(changed) == features, axis=1)
    assert differing.tolist() == [False, True, False, False, False, False]


def test_distance_is_the_formula() -> None:
    luma = texture(5)[..., 0].astype(float)
    features = block_features(luma)
    model = PristineModel(np.linspace(0, 1, 36), np.eye(36))
    difference = features.mean(axis=0) - model.mean
    centred = features - features.mean(axis=0)
    pooled = (np.eye(36) + centred.T @ centred / (len(features) - 1)) / 2
    assert niqe(luma, model) == pytest.approx(math.sqrt(difference @ np.linalg.solve(pooled, difference)), rel=1e-9)


def test_a_flat_block_counts_in_the_means_that_it_has_and_not_in_the_covariance() -> None:
    luma = texture(5)[..., 0].astype(float)
    luma[: BLOCK + 20, : BLOCK + 20] = 103  # a level without rounding noise, as far as windows see
    features = block_features(luma)
    assert np.isnan(features[0]).any()
    assert not np.isnan(features[0]).all()
    assert not np.isnan(features[1:]).any()
    model = PristineModel(np.linspace(0, 1, 36), np.eye(36))
    mean = np.array([np.mean([value for value in column if not math.isnan(value)]) for column in features.T])
    centred = features[1:] - features[1:].mean(axis=0)
    pooled = (np.eye(36) + centred.T @ centred / (len(centred) - 1)) / 2
    difference = mean - model.mean
    assert niqe(luma, model) == pytest.approx(math.sqrt(difference @ np.linalg.solve(pooled, difference)), rel=1e-9)


def test_two_blocks_with_texture_are_enough_and_one_is_not() -> None:
    luma, model = texture(5, 96, 192)[..., 0].astype(float), PristineModel(np.zeros(36), np.eye(36))
    assert math.isfinite(niqe(luma, model))
    luma[:, : BLOCK + 20] = 103
    assert math.isnan(niqe(luma, model))


def test_metric_takes_gray_or_luma() -> None:
    picture = texture(6)
    gray, luma = Niqe(), Niqe(luma="y")
    assert (gray.name, luma.name) == ("niqe", "niqe_y")
    assert not gray.needs_gt
    values = gray(picture, None, PROTOCOL), luma(picture, None, PROTOCOL)
    assert all(math.isfinite(v) and v > 0 for v in values)
    assert values[0] != values[1]
    cropped = np.ascontiguousarray(np.pad(picture, ((7, 7), (7, 7), (0, 0))))
    assert Niqe(crop_border=7)(cropped, None, PROTOCOL) == values[0]


def test_two_blocks_inside_the_border_are_enough() -> None:
    assert Niqe().limitation(96, 192, PROTOCOL) is None
    assert math.isfinite(Niqe()(texture(5, 96, 192), None, PROTOCOL))
    cropping = Niqe(crop_border=4)
    assert cropping.limitation(104, 200, PROTOCOL) is None
    assert cropping.limitation(103, 300, PROTOCOL) is not None
    assert cropping.limitation(104, 199, PROTOCOL) is not None


@pytest.mark.parametrize(("height", "width"), [(95, 500), (500, 95), (150, 150)])
def test_too_small_gives_nan_and_a_reason(height: int, width: int) -> None:
    metric = Niqe()
    assert f"{width}x{height}" in metric.limitation(height, width, PROTOCOL)
    assert math.isnan(metric(np.zeros((height, width, 3), np.uint8), None, PROTOCOL))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use 'gray'"):
        Niqe(luma="rgb")  # type: ignore[arg-type]
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    with pytest.raises(ValueError, match="not a pristine model"):
        load_pristine_model(tmp_path / "other.npz")
    np.savez(tmp_path / "short.npz", mu_pris_param=np.zeros(3), cov_pris_param=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="expected 36 features"):
        load_pristine_model(tmp_path / "short.npz")


def test_a_cropped_border_is_basicsrs() -> None:
    theirs = import_basicsr("basicsr.metrics.niqe")
    if theirs is None:
        pytest.skip("BasicSR is not installed")
    picture = texture(5, 216, 304)
    expected = [float(theirs.calculate_niqe(picture[..., ::-1], border)) for border in (0, 4)]
    found = [build_metric(name)(picture, None, PROTOCOL) for name in ("niqe_y", "niqe_y_crop4")]
    assert found == pytest.approx(expected, rel=3e-4)
    assert abs(found[0] - found[1]) > 0.02, "the border would be ignored"
    assert build_metric("niqe_y_crop4").name == "niqe_y_crop4"
