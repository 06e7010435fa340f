from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import nn

from mvmsr.archs import SRResNet
from mvmsr.data.image_io import read_picture
from mvmsr.inference import Restorer, Upscaler
from mvmsr.inference.in_memory import array_of_picture, image_of_picture, picture_of_array, picture_of_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays_come_back_as_they_were(channels: int | None, dtype: type) -> None:
    array = _noise(5, 7, *(() if channels is None else (channels,)), dtype=dtype)
    assert np.array_equal(array_of_picture(picture_of_array(array), channels), array)
    enlarged = Upscaler("bicubic", outscale=2).upscale_array(array)
    assert enlarged.shape == (10, 14, *array.shape[2:])
    assert enlarged.dtype == dtype


@pytest.mark.parametrize("array", [np.zeros((3, 4, 5)), np.zeros((4, 4, 5), np.uint8), np.zeros(4, np.uint8)])
def test_arrays_that_are_no_pictures(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        picture_of_array(array)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_images_come_back_as_they_were(mode: str) -> None:
    image = Image.fromarray(_noise(5, 7, 4)).convert(mode)
    image.info["icc_profile"] = SRGB
    back = image_of_picture(picture_of_image(image))
    assert back.mode == mode
    assert np.array_equal(np.asarray(back), np.asarray(image))
    assert back.info["icc_profile"] == SRGB


def test_images_of_other_modes() -> None:
    ours = Upscaler("bicubic", outscale=2)
    palette = Image.fromarray(_noise(6, 8) % 2, "P")
    palette.putpalette([1, 2, 3, 200, 100, 50])
    assert ours.upscale_image(palette).mode == "RGB"
    palette.info["transparency"] = 0
    assert ours.upscale_image(palette).mode == "RGBA"
    cmyk = Image.fromarray(_noise(6, 8, 4), "CMYK")
    assert ours.upscale_image(cmyk).mode == "RGB"
    deep = Image.fromarray(_noise(6, 8, dtype=np.uint16))
    enlarged = ours.upscale_image(deep)
    assert (enlarged.mode, enlarged.size) == ("I;16", (16, 12))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(_noise(6, 8, 3))
    turned.info["exif"] = exif.tobytes()
    turned.getexif()[0x0112] = 6
    assert ours.upscale_image(turned).size == (12, 16)
    assert ours.upscale_image(Image.new("1", (6, 8), 1)).getextrema() == (255, 255)
    for mode in ("F", "I"):
        with pytest.raises(ValueError, match=f"8 or 16 bits, got mode {mode}"):
            ours.upscale_image(Image.new(mode, (2, 2)))


def test_grey_of_16_bits_with_alpha_is_reduced() -> None:
    array = _noise(5, 7, 2, dtype=np.uint16)
    image = image_of_picture(picture_of_array(array))
    assert image.mode == "LA"
    assert np.array_equal(np.asarray(image), np.floor(array / 257 + 0.5))


def test_the_preview_behind_a_phones_picture_is_no_second_frame() -> None:
    buffer = io.BytesIO()
    first, preview = Image.new("RGB", (16, 8), (200, 100, 50)), Image.new("RGB", (8, 8))
    first.save(buffer, "MPO", save_all=True, append_images=[preview], quality=100)
    with Image.open(buffer) as opened:
        assert opened.n_frames == 2  # type: ignore[attr-defined]
        assert np.abs(picture_of_image(opened).rgb.astype(int) - (200, 100, 50)).max() <= 3
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=[preview.resize((16, 8))])
    with Image.open(buffer) as opened, pytest.raises(ValueError, match="expected one image, got 2 frames"):
        picture_of_image(opened)


def test_tensors(network: SRResNet) -> None:
    ours = Upscaler(Restorer(network, 4, "cpu", "32"), tile=8)
    lq = torch.rand(2, 3, 11, 13)
    with torch.no_grad():
        expected = network(lq).clamp(0, 1)
    assert torch.allclose(ours.upscale_tensor(lq), expected, atol=1e-5)
    assert torch.allclose(ours.upscale_tensor(lq[0]), expected[0], atol=1e-5)
    for wrong in (torch.rand(2, 1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8), torch.rand(4, 4)):
        with pytest.raises(ValueError, match="expected a float tensor"):
            ours.upscale_tensor(wrong)


@pytest.mark.parametrize("model", ["bicubic", "network"])
def test_tensors_stay_in_range_where_the_kernel_overshoots(model: str) -> None:
    ours = Upscaler("bicubic" if model == "bicubic" else Restorer(nn.Identity(), 1, "cpu", "32"), outscale=3)
    step = (torch.arange(16) > 7).float().expand(1, 3, 9, 16)
    sr = ours.upscale_tensor(step)
    assert sr.shape == (1, 3, 27, 48)
    assert (float(sr.min()), float(sr.max())) == (0, 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_an_image_is_what_its_file_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(_noise(6, 8, 3)).convert(mode).save(path, icc_profile=SRGB)
    ours, theirs = picture_of_image(Image.open(path)), read_picture(path)
    assert np.array_equal(ours.rgb, theirs.rgb)
    assert (ours.alpha is None, ours.grey, ours.icc_profile) == (theirs.alpha is None, theirs.grey, theirs.icc_profile)
    assert ours.icc_profile == (None if mode == "CMYK" else SRGB)  # which is of the inks then, not of our RGB
