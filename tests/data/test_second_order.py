"""Real-ESRGAN's degradation: each part of a round, the order of the rounds, and what its options do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mvmsr.data.degradation import through_jpeg
from mvmsr.data.second_order import FIRST, SECOND, Round, SecondOrder, resized, second_order

CLEAN = {
    "blur_prob": 0.0,
    "resize_prob": (0, 0, 1),
    "gaussian_noise_prob": 1.0,
    "noise_range": (0, 0),
    "jpeg_range": (100, 100),
}


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def gt(picture) -> np.ndarray:
    return picture(64, 80)


def test_the_defaults_are_those_of_real_esrgans_file():
    assert second_order({}) == SecondOrder(FIRST, SECOND, 0.8)
    assert (FIRST.resize_range, FIRST.noise_range, FIRST.poisson_scale_range) == ((0.15, 1.5), (1, 30), (0.05, 3))
    assert (SECOND.resize_range, SECOND.noise_range, SECOND.poisson_scale_range) == ((0.3, 1.2), (1, 25), (0.05, 2.5))
    assert (FIRST.blur_sigma, SECOND.blur_sigma, FIRST.blur_prob, SECOND.blur_prob) == ((0.2, 3), (0.2, 1.5), 1, 0.8)


def test_options_reach_their_round():
    found = second_order({"sinc_prob": 0.3, "second_blur_prob": 0.1, "jpeg_range2": (5, 6), "final_sinc_prob": 0})
    assert found == SecondOrder(replace(FIRST, sinc_prob=0.3), replace(SECOND, blur_prob=0.1, jpeg_range=(5, 6)), 0)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_what_comes_out(picture, scale):
    gt = picture(48, 72)
    gt.setflags(write=False)
    for seed in range(5):
        lq = SecondOrder()(gt, scale, _rng(seed))
        assert (lq.shape, lq.dtype) == ((48 // scale, 72 // scale, 3), np.uint8)
        np.testing.assert_array_equal(lq, SecondOrder()(gt, scale, _rng(seed)))
        assert (lq != SecondOrder()(gt, scale, _rng(seed + 100))).any()


def test_tiny_pictures_shrink_to_no_less_than_a_pixel(picture):
    tiny = SecondOrder(replace(FIRST, resize_prob=(0, 1, 0)), replace(SECOND, resize_prob=(0, 1, 0)))
    for seed in range(12):
        assert tiny(picture(4, 4), 4, _rng(seed)).shape == (1, 1, 3)


def test_a_brightness_survives():
    flat = np.full((64, 64, 3), 140, np.uint8)
    without_noise = SecondOrder(
        *(replace(r, gaussian_noise_prob=1, noise_range=(0, 0), jpeg_range=(100, 100)) for r in (FIRST, SECOND))
    )
    for seed in range(20):
        assert np.abs(without_noise(flat, 4, _rng(seed)).astype(int) - 140).max() <= 2


def test_two_jpegs_are_left_where_nothing_else_is_asked_for(gt):
    lq = SecondOrder(Round(**CLEAN), Round(**CLEAN), 0.0)(gt, 1, _rng())
    np.testing.assert_array_equal(lq, through_jpeg(through_jpeg(gt, 100), 100))


@pytest.mark.parametrize("how", range(3))
def test_resizing_is_torchs(gt, how):
    class Always:
        def integers(self, high: int) -> int:
            return how

    given = torch.from_numpy(gt).permute(2, 0, 1)[None].double()
    mode = ("area", "bilinear", "bicubic")[how]
    sizes = (32, 20) if mode == "area" else (51, 93)  # areas of whole pixels; between them, torch's overlap
    factors = (sizes[0] / 64, sizes[1] / 80)
    result = resized(gt.astype(np.float32), sizes, 1.0, Always())
    assert factors != (1, 1)
    expected = torch.nn.functional.interpolate(given, size=sizes, mode=mode)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(result, expected, atol=0.1)


def test_sizes_are_rounded_down(gt):
    assert resized(gt.astype(np.float32), (64, 80), 0.3, _rng()).shape == (19, 24, 3)


@pytest.mark.parametrize(("prob", "low", "high"), [((1, 0, 0), 1, 1.5), ((0, 1, 0), 0.15, 1), ((0, 0, 1), 1, 1)])
def test_factors_are_in_their_range(prob, low, high):
    rng, kind = _rng(), replace(FIRST, resize_prob=prob)
    factors = [kind.factor(rng) for _ in range(200)]
    assert low <= min(factors) <= low + 0.05
    assert high - 0.05 <= max(factors) <= high


def test_noise_is_of_the_kind_and_strength_asked_for():
    flat = np.full((100, 100, 3), 128, np.float32)
    normal = replace(FIRST, gaussian_noise_prob=1, noise_range=(6, 6), gray_noise_prob=0)
    assert normal.noisy(flat, _rng()).std() == pytest.approx(6, rel=0.03)
    grey = replace(normal, gray_noise_prob=1).noisy(flat, _rng())
    assert (grey[..., 0] == grey[..., 2]).all()
    assert grey.std() == pytest.approx(6, rel=0.03)
    shot = replace(normal, gaussian_noise_prob=0, poisson_scale_range=(0.1, 0.1)).noisy(flat, _rng())
    assert shot.std() == pytest.approx(0.1 * 255 * (128 / 255) ** 0.5, rel=0.03)  # one photon: a single level
    extreme = replace(normal, noise_range=(255, 255)).noisy(flat, _rng())
    assert (extreme.min(), extreme.max()) == (0, 255)


def test_a_worse_jpeg_is_worse(gt):
    picture = gt.astype(np.float32)
    errors = [
        np.abs(replace(FIRST, jpeg_range=(quality, quality)).compressed(picture, _rng()) - picture).mean()
        for quality in (10, 40, 95)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_the_last_sinc_filter_comes_before_or_after_jpeg(gt):
    """After it, the picture is no longer what JPEG gives; before it, it is."""
    rough = replace(Round(**CLEAN), jpeg_range=(20, 20))
    model = SecondOrder(Round(**CLEAN), rough, 1.0)
    again = [np.abs(through_jpeg(lq, 20).astype(int) - lq).mean() for lq in (model(gt, 1, _rng(s)) for s in range(40))]
    last = sum(error < 0.5 for error in again)
    assert 10 <= last <= 30


OPTIONS = {
    "blur_kernel_size": 7,
    "kernel_list": ("iso", "iso", "iso", "iso", "iso", "iso"),
    "kernel_prob": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    "sinc_prob": 0.9,
    "blur_sigma": (1.0, 2.0),
    "betag_range": (0.6, 1.5),
    "betap_range": (1.2, 3.0),
    "resize_prob": (0.0, 0.0, 1.0),
    "resize_range": (0.5, 1.1),
    "gaussian_noise_prob": 0.0,
    "noise_range": (3, 4),
    "poisson_scale_range": (1.0, 1.1),
    "gray_noise_prob": 0.9,
    "jpeg_range": (20, 25),
}
EVERY = {
    **OPTIONS,
    **{f"{key}2": value for key, value in OPTIONS.items()},
    "second_blur_prob": 0.1,
    "final_sinc_prob": 0.1,
}


@pytest.mark.parametrize("key", EVERY)
def test_every_option_has_an_effect(gt, key):
    plain, changed = SecondOrder(), second_order({key: EVERY[key]})
    assert any((plain(gt, 4, _rng(s)) != changed(gt, 4, _rng(s))).any() for s in range(40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur_kernel_size": 8}, "^blur_kernel_size must be an odd number from 7 on, got 8"),
        ({"blur_kernel_size2": 5}, "^blur_kernel_size2 must be an odd number from 7 on, got 5"),
        ({"kernel_list": ("iso", "skew")}, "^kernel_list names 'skew'; known are iso, aniso, generalized_iso, "),
        ({"kernel_prob2": (0.5, 0.5)}, r"^kernel_prob2 must be 6 probabilities whose sum is 1, got \[0.5, 0.5\]"),
        ({"kernel_list": ("iso",)}, "^kernel_prob must be 1 probabilities"),
        ({"kernel_list": (), "kernel_prob": ()}, "^kernel_prob must be 0 probabilities"),
        ({"kernel_prob": (0.9, 0.1, 0.12, 0.03, 0.12, 0.03)}, "^kernel_prob must be 6 probabilities whose sum is 1"),
        ({"resize_prob2": (1.5, -0.5, 0)}, "^resize_prob2 must be 3 probabilities whose sum is 1"),
        ({"resize_prob": (0.2, 0.2, 0.2)}, "^resize_prob must be 3 probabilities whose sum is 1"),
        ({"sinc_prob": 1.5}, "^sinc_prob must be from 0 to 1, got 1.5"),
        ({"second_blur_prob": -0.1}, "^second_blur_prob must be from 0 to 1, got -0.1"),
        ({"gaussian_noise_prob2": float("nan")}, "^gaussian_noise_prob2 must be from 0 to 1, got nan"),
        ({"gray_noise_prob": 2}, "^gray_noise_prob must be"),
        ({"final_sinc_prob": 2}, "^final_sinc_prob must be from 0 to 1, got 2"),
        ({"blur_sigma": (3, 0.2)}, r"^blur_sigma must be \[lowest, highest\] within 0.01 and 20, got \[3, 0.2\]"),
        ({"betag_range2": (0, 1)}, "^betag_range2 must be"),
        ({"betap_range": (1, float("nan"))}, "^betap_range must be"),
        ({"resize_range": (0, 1.5)}, r"^resize_range must be \[lowest, highest\] within 0.01 and 4"),
        ({"resize_range2": (1.1, 1.2)}, r"^resize_range2 must have 1 in it, got \[1.1, 1.2\]"),
        ({"noise_range": (-1, 5)}, "^noise_range must be .* within 0 and 255"),
        ({"poisson_scale_range2": (1, 0)}, "^poisson_scale_range2 must be"),
        ({"jpeg_range": (0, 95)}, "^jpeg_range must be .* within 1 and 100"),
    ],
)
def test_values_that_are_none_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        second_order(options)
