from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from mvmsr.benchmark.ssim_variants import SSIM_VARIANTS, ssim_variants
from mvmsr.metrics.protocol import crop
from mvmsr.metrics.ssim import ssim


@pytest.fixture(scope="module")
def planes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gt = np.cumsum(rng.normal(0, 9, (3, 45, 61)), axis=2).clip(-120, 120) + 125
    sr = (gt + rng.normal(0, 12, gt.shape)).clip(0, 255).round()
    return sr, gt.round()


@pytest.mark.parametrize("border", [0, 4, 10])
def test_like_the_metric_and_like_scikit_image(border: int, planes: tuple[np.ndarray, np.ndarray]) -> None:
    found = ssim_variants(*planes, (0, 4, 10))
    sr, gt = (crop(plane.transpose(1, 2, 0), border) for plane in planes)
    first, second = sr.transpose(2, 0, 1), gt.transpose(2, 0, 1)
    expected = {
        "gaussian": ssim(first, second),
        "gaussian, zero-padded": ssim(first, second, "zero_pad"),
        "gaussian, downsampled": ssim(first, second),
        "uniform 7x7": structural_similarity(sr, gt, data_range=255, channel_axis=2),
        "uniform 7x7, range 2": structural_similarity(sr / 255, gt / 255, data_range=2, channel_axis=2),
    }
    for name, value in expected.items():
        assert found[border, name] == pytest.approx(value, abs=1e-9), name
    assert {name for _, name in found} == set(SSIM_VARIANTS)
    assert len({round(value, 9) for key, value in found.items() if key[0] == border}) == len(SSIM_VARIANTS) - 1


def test_replicated_borders_are_those_of_a_padded_picture(planes: tuple[np.ndarray, np.ndarray]) -> None:
    padded = [np.pad(plane, ((0, 0), (5, 5), (5, 5)), mode="edge") for plane in planes]
    assert ssim_variants(*planes, (0,))[0, "gaussian, replicated"] == pytest.approx(ssim(*padded), abs=1e-12)


def test_large_pictures_are_shrunk() -> None:
    rng = np.random.default_rng(1)
    gt = rng.integers(0, 256, (1, 384, 700)).astype(float)  # the shorter side counts
    sr = gt + rng.normal(0, 20, gt.shape)
    shrunk = [  # means of 2 x 2 with the mirrored row above and the column to the left, by hand
        np.pad(plane[0], ((1, 0), (1, 0)), mode="symmetric")[None] for plane in (sr, gt)
    ]
    means = [(p[:, :-1, :-1] + p[:, 1:, :-1] + p[:, :-1, 1:] + p[:, 1:, 1:])[:, ::2, ::2] / 4 for p in shrunk]
    found = ssim_variants(sr, gt, (0,))
    assert found[0, "gaussian, downsampled"] == pytest.approx(ssim(*means), abs=1e-9)
    assert found[0, "gaussian, downsampled"] != pytest.approx(found[0, "gaussian"], abs=1e-6)


def test_equal_planes_have_one_and_small_crops_are_left_out() -> None:
    plane = np.random.default_rng(2).integers(0, 256, (1, 20, 24)).astype(float)
    found = ssim_variants(plane, plane, (0, 4, 5))
    assert {border for border, _ in found} == {0, 4}
    assert list(found.values()) == pytest.approx([1.0] * len(found))
