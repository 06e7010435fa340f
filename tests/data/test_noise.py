"""Noise has the mean and the variance that it says."""

from __future__ import annotations

import numpy as np
import pytest

from mvmsr.data.noise import gaussian_noise, poisson_noise


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("grey", [False, True])
def test_normal_noise(grey):
    noise = gaussian_noise((400, 300, 3), 7.5, grey, _rng())
    assert noise.shape == (400, 300, 1 if grey else 3)
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0, abs=0.08)
    assert noise.std() == pytest.approx(7.5, rel=0.01)
    if not grey:
        assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02


def _steps(count: int) -> np.ndarray:
    """A picture of `count` levels, each of 200 x 200 pixels, the same in all channels."""
    levels = np.linspace(0, 255, count).round().astype(np.float32)
    return np.broadcast_to(levels[:, None, None, None], (count, 200, 200, 3)).reshape(count * 200, 200, 3).copy()


@pytest.mark.parametrize(("count", "photons"), [(5, 8), (8, 8), (3, 4), (1, 1)])
def test_poisson_noise_has_the_variance_of_as_many_photons(count, photons):
    picture = _steps(count) if count > 1 else np.full((200, 200, 3), 100, np.float32)
    noise = poisson_noise(picture, 0.5, False, _rng())
    for at in range(count):
        part, level = noise[at * 200 : at * 200 + 200], float(picture[at * 200, 0, 0])
        variance = level / 255 / photons * 255**2 * 0.5**2
        assert part.mean() == pytest.approx(0, abs=4 * (variance / part.size) ** 0.5 + 1e-2)
        assert part.var() == pytest.approx(variance, rel=0.03)


def test_poisson_noise_of_a_photograph_is_numpys():
    picture = np.broadcast_to(np.arange(256, dtype=np.float32)[:, None, None], (256, 3000, 3))
    noise = poisson_noise(picture, 1.0, False, _rng())
    for level in (1, 3, 20, 130, 255):
        mine = np.sort(noise[level].ravel())
        theirs = np.sort(_rng(1).poisson(level / 255 * 256, mine.size) / 256 * 255 - level)
        assert mine.var() == pytest.approx(theirs.var(), rel=0.05)
        for share in (0.05, 0.25, 0.5, 0.75, 0.95):
            assert mine[int(share * mine.size)] == pytest.approx(theirs[int(share * mine.size)], abs=1.001)


def test_grey_poisson_noise_is_that_of_the_luma():
    picture = np.zeros((300, 300, 3), np.float32)
    picture[..., 1] = 200
    picture[150:, :, 1] = 0
    noise = poisson_noise(picture, 1.0, True, _rng())
    assert noise.shape == (300, 300, 1)
    level = round(0.587 * 200)
    assert noise[:150].var() == pytest.approx(level / 255 / 2 * 255**2, rel=0.05)
    assert (noise[150:] == 0).all()
    coloured = poisson_noise(picture, 1.0, False, _rng())
    assert (coloured[..., 0] == 0).all()
    assert coloured[:150, :, 1].std() > 1


def test_values_beyond_the_range_are_clipped_to_it():
    picture = np.array([[[-30.0, 300.0, 0.4]]], np.float32)
    noise = np.concatenate([poisson_noise(picture, 1.0, False, _rng(seed)) for seed in range(400)])
    assert (noise[..., 0] == 0).all()
    assert noise[..., 1].var() == pytest.approx(255**2 / 2, rel=0.2)
