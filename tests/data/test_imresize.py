from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.data.image_io import read_rgb
from mvmsr.data.imresize import imresize, taps


def test_taps_of_a_halving_by_hand():
    # Output 2 of 6 -> 3: centre u = 2 / 0.5 + 0.5 (1 - 2) = 3.5 counted from 1, so inputs lie 0.5, 1.5, ... away
    # and the stretched kernel is read at 0.25, 0.75, 1.25, 1.75. With a = -0.5 and a factor 1/2 that gives:
    near = [0.5 * 0.8671875, 0.5 * 0.2265625, 0.5 * -0.0703125, 0.5 * -0.0234375]
    indices, weights = taps(6, 3, 0.5)
    total = np.zeros(6)
    np.add.at(total, indices[1], weights[1])
    # Inputs 3 and 4 (from 1) are nearest, then 2 and 5, then 1 and 6; 0 and 7 mirror onto 1 and 6.
    expected = [near[2] + near[3], near[1], near[0], near[0], near[1], near[2] + near[3]]
    np.testing.assert_allclose(total, expected, atol=1e-15)


def test_doubling_by_hand():
    # Output 3 (from 1) of a doubling has u = 3/2 + 0.25 = 1.75: kernel at 1.75, 0.75, 0.25, 1.25 of inputs 0, 1, 2, 3.
    row = np.array([[10.0, 20.0, 40.0, 80.0]])
    expected = -0.0234375 * 10 + 0.2265625 * 10 + 0.8671875 * 20 - 0.0703125 * 40
    assert imresize(row, 2)[0, 2] == pytest.approx(expected, abs=1e-12)


def test_against_the_definition_computed_one_pixel_at_a_time():
    image = np.random.default_rng(1).random((9, 7))
    scale = 0.4

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    def line(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, 20, mode="symmetric")
        out = []
        for k in range(int(np.ceil(scale * len(values)))):
            centre = (k + 0.5) / scale - 0.5
            weights = np.array([kernel(scale * (centre - position)) for position in range(-20, len(values) + 20)])
            out.append((weights * padded).sum() / weights.sum())
        return np.array(out)

    expected = np.apply_along_axis(line, 1, np.apply_along_axis(line, 0, image))
    np.testing.assert_allclose(imresize(image, scale), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(33, 47, 3), (40, 41, 3), (70, 33, 3)])
@pytest.mark.parametrize("scale", [0.25, 0.5, 1 / 3, 0.7, 1.5, 2, 3, 4])
def test_agrees_with_basicsr(shape: tuple[int, ...], scale: float):
    theirs = import_basicsr("basicsr.utils.matlab_functions")
    if theirs is None:
        pytest.skip("basicsr is not installed")
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    expected = theirs.imresize(image, scale)
    ours = imresize(image, scale)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=2e-5)  # theirs computes in float32


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.61, 1.0, 2.5, 4])
@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_constant_picture_stays_constant(scale: float, value: int):
    image = np.full((21, 13, 3), value, dtype=np.uint8)
    assert (imresize(image, scale) == value).all()


def test_16_bits_are_rounded_and_clipped_to_their_own_range():
    step = np.repeat(np.array([[0, 65535]], np.uint16), 8, axis=1)
    exact = imresize(step.astype(np.float64), 4)
    np.testing.assert_array_equal(imresize(step, 4), np.floor(exact.clip(0, 65535) + 0.5))


def test_sizes_are_rounded_up_and_tiny_pictures_work():
    assert imresize(np.zeros((33, 47, 3), np.uint8), 0.25).shape == (9, 12, 3)
    assert imresize(np.zeros((1, 1), np.uint8), 0.25).shape == (1, 1)
    assert imresize(np.zeros((10, 20, 4), np.float32), output_size=(3, 31)).shape == (3, 31, 4)


def test_scale_one_changes_nothing(picture):
    image = picture(20, 17)
    np.testing.assert_array_equal(imresize(image, 1), image)


def test_rounds_half_up_once_and_clips():
    # A pair of equal halves: 0.5 rounds to 1 and 2.5 to 3, where rounding to even would give 0 and 2.
    assert imresize(np.array([[0, 1]], np.uint8), output_size=(1, 1)).item() == 1
    assert imresize(np.array([[2, 3]], np.uint8), output_size=(1, 1)).item() == 3
    step = np.repeat(np.array([[0, 255]], np.uint8), 8, axis=1)
    exact = imresize(step.astype(np.float64), 4)
    assert exact.min() < 0
    assert exact.max() > 255
    assert set(imresize(step, 4)[0, [12, 13, 50]]) <= {0, 255}


def test_both_axes_are_treated_alike(picture):
    image = picture(31, 18).astype(np.float64)
    np.testing.assert_allclose(imresize(image.swapaxes(0, 1), 0.3).swapaxes(0, 1), imresize(image, 0.3), atol=1e-10)


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros((4, 4), np.uint8), {}, "either scale or output_size"),
        (np.zeros((4, 4), np.uint8), {"scale": 2, "output_size": (8, 8)}, "either scale or output_size"),
        (np.zeros((4, 4), np.uint8), {"scale": 0}, "positive"),
        (np.zeros((4, 4), np.uint8), {"scale": float("nan")}, "positive"),
        (np.zeros((4, 4), np.uint8), {"output_size": (0, 8)}, "at least 1"),
        (np.zeros((4, 4), np.int32), {"scale": 2}, "int32"),
        (np.zeros((2, 4, 4, 3), np.uint8), {"scale": 2}, r"\(2, 4, 4, 3\)"),
    ],
)
def test_refuses(image: np.ndarray, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        imresize(image, **arguments)


@pytest.mark.data
def test_published_low_quality_pictures_of_set5(benchmark_sets: Path):
    for high in sorted((benchmark_sets / "Set5/image_SRF_4").glob("*_HR.png")):
        published = read_rgb(high.with_name(high.name.replace("_HR", "_LR"))).astype(int)
        difference = np.abs(imresize(read_rgb(high), 0.25) - published)
        assert difference[6:-6, 6:-6].max() <= 1, high.name
        assert (difference > 0).mean() < 0.15
