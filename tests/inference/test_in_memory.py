from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from mvmsr.archs import SRResNet
from mvmsr.inference import Restorer, Upscaler, in_memory
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
    with pytest.raises(ValueError, match="8 or 16 bits, got mode F"):
        ours.upscale_image(Image.new("F", (2, 2)))


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


def test_a_profile_is_used_as_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
        calls.append((image.mode, profile))
        return image.convert("RGB")

    monkeypatch.setattr(in_memory, "to_srgb", to_srgb)
    image = Image.fromarray(_noise(6, 8, 4), "CMYK")
    image.info["icc_profile"] = b"of the printer"
    assert picture_of_image(image).icc_profile is None
    assert calls == [("CMYK", b"of the printer")]
