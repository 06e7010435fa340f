"""Blur kernels against their formulas, BasicSR's, and what they do to frequencies."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.data.blur_kernels import KERNELS, filtered, gaussian, plateau, random_kernel, random_size, sinc

SHAPES = [(7, (0.6, 0.6), 0.0, 1.0), (13, (2.5, 0.8), 0.7, 0.6), (21, (1.2, 3.0), -2.1, 3.5)]


@pytest.mark.parametrize(("size", "sigmas", "angle", "beta"), SHAPES)
@pytest.mark.parametrize("make", [gaussian, plateau])
def test_gaussians_and_plateaus_are_their_formulas(make, size, sigmas, angle, beta):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(np.square(sigmas)) @ turn.T)
    expected = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            at = np.array([column - size // 2, row - size // 2])
            distance = (at @ inverse @ at) ** beta
            expected[row, column] = math.exp(-distance / 2) if make is gaussian else 1 / (1 + distance)
    np.testing.assert_allclose(make(size, sigmas, angle, beta), expected / expected.sum(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("size", "sigmas", "angle", "beta"), SHAPES)
def test_kernels_are_basicsrs(size, sigmas, angle, beta):
    theirs = import_basicsr("basicsr.data.degradations")
    if theirs is None:
        pytest.skip("BasicSR is not installed")
    arguments = {"grid": None, "isotropic": False}
    same = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(
        gaussian(size, sigmas, angle), theirs.bivariate_Gaussian(size, *sigmas, angle, **arguments), **same
    )
    np.testing.assert_allclose(
        gaussian(size, sigmas, angle, beta),
        theirs.bivariate_generalized_Gaussian(size, *sigmas, angle, beta, **arguments),
        **same,
    )
    np.testing.assert_allclose(
        plateau(size, sigmas, angle, beta), theirs.bivariate_plateau(size, *sigmas, angle, beta, **arguments), **same
    )
    np.testing.assert_allclose(sinc(size, 1 + beta / 2), theirs.circular_lowpass_kernel(1 + beta / 2, size), **same)


@pytest.mark.parametrize("cutoff", [math.pi / 3, 2.0])
def test_a_sinc_keeps_frequencies_below_its_cutoff_only(cutoff):
    response = np.abs(np.fft.fft2(sinc(201, cutoff)))
    radians = 2 * np.pi * np.hypot(*np.meshgrid(np.fft.fftfreq(201), np.fft.fftfreq(201)))
    assert response[0, 0] == pytest.approx(1)
    assert response[radians < cutoff - 0.1] == pytest.approx(1, abs=0.05)
    assert response[(radians > cutoff + 0.1) & (radians < math.pi)] == pytest.approx(0, abs=0.05)


def _draw(rng: np.random.Generator, kind: str = "iso", sinc_prob: float = 0.0, **changes) -> np.ndarray:
    limits = {"sigma": (0.2, 3.0), "betag": (0.5, 4.0), "betap": (1.0, 2.0), **changes}
    return random_kernel(rng, 21, [kind], [1.0], sinc_prob, **limits)


@pytest.mark.parametrize("kind", [*KERNELS, "sinc"])
def test_random_kernels_sum_to_one_and_are_symmetric(kind):
    rng = np.random.default_rng(0)
    draws = [_draw(rng, *(("iso", 1.0) if kind == "sinc" else (kind,))) for _ in range(60)]
    assert {len(kernel) for kernel in draws} == {7, 9, 11, 13, 15, 17, 19, 21}
    for kernel in draws:
        assert kernel.sum() == pytest.approx(1)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
        if not kind.endswith("aniso"):
            np.testing.assert_allclose(kernel, kernel.T, atol=1e-12)
            np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-12)
    turned = sum(np.abs(kernel - kernel[::-1]).max() > 1e-4 for kernel in draws)
    assert turned > 20 if kind.endswith("aniso") else turned == 0
    assert (min(kernel.min() for kernel in draws) < 0) == (kind == "sinc")


def test_each_range_is_kept():
    rng = np.random.default_rng(0)
    for sigma in (0.7, 2.0):
        kernel = _draw(rng, "iso", sigma=(sigma, sigma))
        np.testing.assert_allclose(kernel, gaussian(len(kernel), (sigma, sigma)))
    for kind, key, make in (("generalized_iso", "betag", gaussian), ("plateau_iso", "betap", plateau)):
        for beta in (0.7, 1.0, 2.5):
            kernel = _draw(rng, kind, sigma=(1.5, 1.5), **{key: (beta, beta)})
            np.testing.assert_allclose(kernel, make(len(kernel), (1.5, 1.5), 0.0, beta))


def test_half_of_the_shapes_are_below_one():
    rng, below = np.random.default_rng(0), 0
    for _ in range(300):
        kernel = _draw(rng, "generalized_iso", sigma=(1.0, 1.0), betag=(0.5, 4.0))
        middle = len(kernel) // 2
        at_two = -2 * math.log(max(kernel[middle, middle + 2] / kernel[middle, middle], 1e-300))
        below += at_two < 4  # it is 4**beta
    assert 120 <= below <= 180


def test_sizes_are_equally_frequent():
    rng = np.random.default_rng(0)
    sizes = [random_size(11, rng) for _ in range(600)]
    assert sorted(set(sizes)) == [7, 9, 11]
    assert min(map(sizes.count, (7, 9, 11))) > 150


@pytest.mark.parametrize("shape", [(40, 33), (5, 3), (1, 2), (1, 1)])
@pytest.mark.parametrize("size", [7, 21])
def test_filtering_is_opencvs(shape, size):
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (*shape, 3)).astype(np.float32)
    kernel = gaussian(size, (2.0, 0.7), 0.4)
    expected = cv2.filter2D(picture, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_REFLECT_101)
    result = filtered(picture, kernel)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_a_kernel_that_is_not_symmetric_is_convolved_with():
    picture, kernel = np.zeros((9, 9, 3), np.float32), np.arange(9.0).reshape(3, 3)
    picture[4, 4] = 1
    np.testing.assert_allclose(filtered(picture, kernel)[3:6, 3:6, 0], kernel, atol=1e-6)
