from __future__ import annotations

import numpy as np
import pytest

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.color import rgb_to_gray, rgb_to_y


def picture(seed: int = 0, shape: tuple[int, ...] = (40, 50, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("rgb", "luma"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((100, 150, 200), 16 + (6548.1 + 19282.95 + 4993.2) / 255),
    ],
)
def test_luma_by_hand(rgb: tuple[int, int, int], luma: float) -> None:
    one = np.array([[rgb]], dtype=np.uint8)
    assert rgb_to_y(one, round_y=False)[0, 0] == pytest.approx(luma, abs=1e-12)
    assert rgb_to_y(one, round_y=True)[0, 0] == round(luma)


def test_rounding_takes_halves_up() -> None:
    rgb = picture(1, (300, 300, 3))
    exact = rgb_to_y(rgb, round_y=False)
    assert np.array_equal(rgb_to_y(rgb, round_y=True), np.floor(exact + 0.5))


def test_unrounded_luma_is_basicsrs() -> None:
    theirs = import_basicsr("basicsr.utils.color_util")
    if theirs is None:
        pytest.skip("BasicSR is not installed")
    rgb = picture(2)
    expected = theirs.rgb2ycbcr(rgb.astype(np.float32) / 255, y_only=True) * 255
    assert np.abs(rgb_to_y(rgb, round_y=False) - expected).max() < 1e-4  # theirs is float32


def test_gray_keeps_gray_and_weighs_colours() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.array_equal(rgb_to_gray(levels)[0], np.arange(256))
    assert rgb_to_gray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)).tolist() == [[76, 150, 29]]


@pytest.mark.parametrize("function", [lambda a: rgb_to_y(a, True), rgb_to_gray])
@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((4, 4, 3)), TypeError, "expected uint8, got float64"),
        (np.zeros((4, 4), np.uint8), ValueError, r"expected \(..., 3\), got \(4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), ValueError, "replicate a grey image"),
    ],
)
def test_refusals(function, array: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(array)


@pytest.mark.parametrize("round_y", [True, False])
def test_large_pictures_are_done_in_strips_without_a_difference(round_y: bool) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 700, 3), dtype=np.uint8)
    weighted = rgb.astype(np.int64) @ np.array([65481, 128553, 24966])
    expected = (weighted + 127_500) // 255_000 + 16 if round_y else weighted / 255_000 + 16
    assert np.array_equal(rgb_to_y(rgb, round_y), expected)
    assert np.array_equal(rgb_to_y(rgb[4:-4, 4:-4], round_y), expected[4:-4, 4:-4])
    assert np.array_equal(rgb_to_y(rgb[:, 0], round_y), expected[:, 0])
