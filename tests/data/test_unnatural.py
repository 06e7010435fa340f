"""Noisy and blurry pictures: which frequencies change and by how much, mixtures, errors; which crops are textured."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from mvmsr.data.imresize import imresize
from mvmsr.data.textured_crops import TexturedCrops, is_textured
from mvmsr.data.unnatural import blurry, dct_matrix, noisy


def test_the_transform_is_scipys() -> None:
    x = np.random.default_rng(0).normal(size=8)
    np.testing.assert_allclose(dct_matrix().numpy() @ x, scipy.fft.dct(x, norm="ortho"), atol=1e-6)


def test_noise_sits_in_the_last_row_and_column_of_every_block_and_has_its_strength() -> None:
    image = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = noisy(image, 0.05, torch.Generator().manual_seed(1)) - image
    blocks = noise.reshape(8, 3, 8, 8, 8, 8).permute(0, 1, 2, 4, 3, 5).numpy()
    spectrum = scipy.fft.dctn(blocks, axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(spectrum[..., :7, :7], 0, atol=1e-6)
    touched = np.concatenate([spectrum[..., 7, :], spectrum[..., :7, 7]], axis=-1)
    assert touched.shape[-1] == 15
    assert touched.std() == pytest.approx(0.05, rel=0.02)
    assert touched.mean() == pytest.approx(0, abs=1e-3)


def test_noise_follows_its_generator_alone() -> None:
    image = torch.zeros(1, 3, 16, 8)
    first, again = (noisy(image, 0.1, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, noisy(image, 0.1, torch.Generator().manual_seed(4)))


def test_blurry_is_a_mixture_with_matlabs_enlargement() -> None:
    rng = np.random.default_rng(2)
    gt, lq = rng.random((64, 64, 3)), rng.random((16, 16, 3))
    tensors = [torch.from_numpy(x.transpose(2, 0, 1))[None] for x in (gt, lq)]
    found = blurry(*tensors, alpha=0.7)[0].numpy().transpose(1, 2, 0)
    expected = 0.7 * gt + 0.3 * imresize(lq, scale=4)
    inside = slice(12, -12)  # MATLAB mirrors at the border, torch does not
    np.testing.assert_allclose(found[inside, inside], expected[inside, inside], atol=1e-6)
    assert torch.equal(blurry(*tensors, alpha=1.0), tensors[0])


def test_impossible_pictures_and_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, got 12x8"):
        noisy(torch.zeros(1, 3, 12, 8), 0.1, torch.Generator())
    with pytest.raises(ValueError, match=r"alpha from 0 to 1, got 1\.5"):
        blurry(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 2, 2), 1.5)


def test_what_is_textured() -> None:
    half = np.zeros((8, 8, 3), np.uint8)
    half[:, 4:] = 255  # variance 1/4; one of seven differences across is 1
    assert is_textured(half, 1 / 7 - 1e-4, 0.24)
    assert not is_textured(half, 1 / 7 + 1e-4, 0.24)
    assert not is_textured(half, 0.005, 0.26)


class Crops:
    """Even crops but for every third draw."""

    scale, gt_size, names = 4, 8, ("a", "b", "c")

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 3

    def crop_views(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append(index)
        gt = np.zeros((8, 8, 3), np.uint8)
        if len(self.asked) % 3 == 0:
            gt[::2] = 255
        return np.zeros((2, 2, 3), np.uint8), gt


def test_crops_are_drawn_again_until_one_is_textured() -> None:
    dataset = Crops()
    crops = TexturedCrops(dataset, [2, 0])
    assert (len(crops), crops.names) == (2, ["c", "a"])
    assert crops.crop_views(0, np.random.default_rng(0))[1].max() == 255
    assert dataset.asked == [2, 2, 2]
    patient = TexturedCrops(dataset, [1], attempts=2)
    assert patient.crop_views(0, np.random.default_rng(0))[1].max() == 0  # the last one, whatever it shows
    with pytest.raises(ValueError, match="at least one image"):
        TexturedCrops(dataset, [])
