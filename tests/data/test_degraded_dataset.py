"""Blur, noise and JPEG of low-quality crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mvmsr.data import DegradedImageDataset, PairedImageDataset
from mvmsr.data.degradation import Degradation, blurred, through_jpeg

FLAT = np.full((200, 200, 3), 128, np.uint8)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("vertical", "horizontal"), [(1.3, 0.4), (0, 2.0), (0.7, 0)])
def test_a_blur_is_opencvs(vertical: float, horizontal: float):
    picture = _rng().integers(0, 256, (20, 30, 3), np.uint8)
    width, height = (2 * int(3 * sigma + 0.5) + 1 for sigma in (horizontal, vertical))
    expected = cv2.GaussianBlur(picture.astype(float), (width, height), horizontal, None, vertical, cv2.BORDER_REFLECT)
    assert np.abs(blurred(picture, vertical, horizontal).astype(float) - expected).max() <= 0.501


def test_no_blur_changes_nothing():
    picture = _rng().integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(blurred(picture, 0, 0), picture)


def test_noise_has_its_strength_and_is_sometimes_grey():
    noisy = Degradation(blur=None, noise=(5, 5), jpeg=None, prob=1)
    results = [noisy(FLAT, _rng(seed)).astype(float) for seed in range(30)]
    for result in results:
        assert result.std() == pytest.approx(5, rel=0.05)
        assert result.mean() == pytest.approx(128, abs=0.2)
    grey = sum(bool((result[..., 0] == result[..., 2]).all()) for result in results)
    assert 5 <= grey <= 20  # two fifths of 30, give or take
    rng = _rng()
    grey = sum(bool((np.ptp(noisy(FLAT[:4, :4], rng), axis=2) == 0).all()) for _ in range(400))
    assert 130 <= grey <= 190


def test_a_worse_jpeg_is_worse():
    picture = (np.add.outer(np.arange(64), np.arange(64)) % 64 * 4).astype(np.uint8)[..., None].repeat(3, axis=2)
    errors = [np.abs(through_jpeg(picture, quality).astype(float) - picture).mean() for quality in (10, 50, 95)]
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("kind", [{"blur": (1, 1)}, {"noise": (9, 9)}, {"jpeg": (5, 5)}])
def test_each_happens_as_often_as_asked(kind: dict):
    rare = Degradation(**{"blur": None, "noise": None, "jpeg": None, "prob": 0.25, **kind})
    rng = _rng()
    picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
    changed = sum(bool((rare(picture, rng) != picture).any()) for _ in range(400))
    assert 70 <= changed <= 130
    np.testing.assert_array_equal(Degradation(prob=0)(picture, rng), picture)


def test_the_quality_asked_for_is_the_jpegs():
    picture = _rng().integers(0, 256, (16, 16, 3), np.uint8)
    only = Degradation(blur=None, noise=None, jpeg=(70, 70), prob=1)
    for seed in range(8):
        np.testing.assert_array_equal(only(picture, _rng(seed)), through_jpeg(picture, 70))


def test_the_strength_of_noise_is_drawn_anew():
    noisy = Degradation(blur=None, noise=(2, 8), jpeg=None, prob=1)
    strengths = sorted(float((noisy(FLAT, _rng(seed)).astype(float)).std()) for seed in range(30))
    assert 1.9 < strengths[0] < 3
    assert 7 < strengths[-1] < 8.1


def test_a_blur_is_drawn_for_either_direction():
    """A point becomes as wide as high by chance only."""
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    blurry = Degradation(blur=(0.5, 3), noise=None, jpeg=None, prob=1)
    results = [blurry(point, _rng(seed)) for seed in range(10)]
    assert sum(bool((result != result.swapaxes(0, 1)).any()) for result in results) >= 8


def test_what_is_given_is_left_as_it_is():
    picture = FLAT.copy()
    picture.setflags(write=False)
    result = Degradation(prob=1)(picture, _rng())
    assert result.dtype == np.uint8
    assert result.shape == picture.shape
    assert (picture == 128).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur": (1, 0.5)}, r"blur must be \[lowest, highest\] within 0 and 10, got \[1, 0.5\]"),
        ({"noise": (-1, 5)}, "noise must be"),
        ({"jpeg": (0, 95)}, "jpeg must be .* within 1 and 100"),
        ({"prob": 1.5}, "prob must be from 0 to 1, got 1.5"),
    ],
)
def test_ranges_that_are_none(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Degradation(**options)


def test_crops_are_the_paired_data_sets_but_for_their_low_quality(made_set):
    root = made_set()
    shared = {"gt_size": 32, "cache_dir": root.parent / "cache"}
    clean, degraded = PairedImageDataset(str(root), **shared), DegradedImageDataset(str(root), **shared, prob=1.0)
    for seed in range(5):
        (lq, gt), (worse, same) = clean.crop(0, _rng(seed)), degraded.crop(0, _rng(seed))
        np.testing.assert_array_equal(gt, same)
        assert worse.shape == lq.shape
        assert worse.dtype == np.uint8
        assert (worse != lq).any()
        np.testing.assert_array_equal(worse, degraded.crop(0, _rng(seed))[0])  # as a continued run would see it


def test_options_are_checked_before_any_work(made_set, tmp_path: Path):
    with pytest.raises(ValueError, match="jpeg must be"):
        DegradedImageDataset(str(tmp_path / "nowhere"), jpeg=(5, 1))
