from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from mvmsr.data.image_io import ImageError, Picture, read_picture, write_picture
from mvmsr.inference import Restorer, Upscaler, strip_writing, upscaler
from mvmsr.inference.strip_writing import Layout, write_strips

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _pixels(height: int, width: int, channels: int, dtype: type) -> np.ndarray:
    """Half smooth, half noise, so that every filter of PNG is the best somewhere."""
    limit = np.iinfo(dtype).max
    y, x, c = np.mgrid[:height, :width, :channels]
    smooth = (y * 211 + x * 97 + c * 31) * (limit // 255) % limit
    noise = np.random.default_rng(0).integers(0, limit, (height, width, channels), endpoint=True)
    return np.where(x > width // 2, noise, smooth).astype(dtype)


def _cut(pixels: np.ndarray, heights: list[int]) -> Iterator[np.ndarray]:
    row = 0
    for height in heights:
        yield pixels[row : row + height]
        row += height


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_value_comes_back(tmp_path: Path, suffix: str, dtype: type, channels: int) -> None:
    pixels = _pixels(77, 41, channels, dtype)
    layout = Layout(77, 41, channels, np.dtype(dtype))
    write_strips(tmp_path / f"a{suffix}", layout, _cut(pixels, [1, 40, 30, 6]))
    if suffix == ".tif":
        assert np.array_equal(tifffile.imread(tmp_path / "a.tif").reshape(pixels.shape), pixels)
    if (dtype, channels, suffix) == (np.uint16, 2, ".tif"):
        return  # OpenCV, by which we read 16 bits, knows no such file
    back = read_picture(tmp_path / f"a{suffix}")
    assert back.rgb.dtype == dtype
    # OpenCV turns 16-bit grey with alpha into four channels.
    assert back.grey == (channels <= 2) or (dtype, channels) == (np.uint16, 2)
    colours = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    assert np.array_equal(back.rgb, colours)
    assert (back.alpha is None) == (channels in (1, 3))
    assert back.alpha is None or np.array_equal(back.alpha, pixels[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (32, 8), (33, 8)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    pixels = _pixels(*size, 3, np.uint8)
    write_strips(tmp_path / f"a{suffix}", Layout(*size, 3, pixels.dtype), [pixels])
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_profile_and_exif_are_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    pixels = _pixels(8, 8, 3, np.uint8)
    for suffix in (".png", ".tif"):
        layout = Layout(8, 8, 3, pixels.dtype, SRGB, exif.tobytes())
        write_strips(tmp_path / f"a{suffix}", layout, [pixels])
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.info["icc_profile"] == SRGB
            assert suffix == ".tif" or image.getexif()[0x010F] == "Maker"


def test_png_is_about_as_small_as_pillows(tmp_path: Path) -> None:
    from skimage import data

    pixels = data.astronaut()[:200, :200]
    write_strips(tmp_path / "a.png", Layout(200, 200, 3, pixels.dtype), [pixels])
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    assert (tmp_path / "a.png").stat().st_size < 1.1 * len(buffer.getvalue())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"a{suffix}"
    target.write_text("the one before")

    def failing() -> Iterator[np.ndarray]:
        yield np.zeros((4, 4, 3), np.uint8)
        raise RuntimeError("the network fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        write_strips(target, Layout(8, 4, 3, np.dtype(np.uint8)), failing())
    assert target.read_text() == "the one before"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("strips", "message"),
    [
        ([np.zeros((4, 4, 3), np.uint8)], "expected 8 rows, got 4"),
        ([np.zeros((8, 5, 3), np.uint8)], r"\(rows, 4, 3\) uint8, got \(8, 5, 3\)"),
        ([np.zeros((8, 4, 3), np.uint16)], "got .* uint16"),
    ],
)
def test_strips_that_do_not_fit(tmp_path: Path, strips: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_strips(tmp_path / "a.png", Layout(8, 4, 3, np.dtype(np.uint8)), strips)
    with pytest.raises(ValueError, match=r"only \.png, \.tif"):
        write_strips(tmp_path / "a.jpg", Layout(8, 4, 3, np.dtype(np.uint8)), strips)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot be written"):
        write_strips(tmp_path / "file" / "a.png", Layout(1, 1, 3, np.dtype(np.uint8)), [np.zeros((1, 1, 3), np.uint8)])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("grey", "alpha", "dtype"), [(False, True, np.uint8), (True, False, np.uint8)])
@pytest.mark.parametrize("outscale", [None, 2.5])
def test_large_files_are_those_of_small_ones(
    network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    grey: bool,
    alpha: bool,
    dtype: type,
    outscale,
) -> None:
    rgb = _pixels(29, 23, 3, dtype)
    picture = Picture(
        np.repeat(rgb[..., :1], 3, axis=2) if grey else rgb, _pixels(29, 23, 1, dtype)[..., 0] if alpha else None, grey
    )
    ours = Upscaler(Restorer(network, 4, "cpu", "32"), tile=8, outscale=outscale)
    ours.upscale_to(picture, tmp_path / f"small{suffix}")
    monkeypatch.setattr(upscaler, "LARGE", 1)
    monkeypatch.setattr(upscaler, "write_picture", None)
    ours.upscale_to(picture, tmp_path / f"large{suffix}")
    small, large = (read_picture(tmp_path / f"{name}{suffix}") for name in ("small", "large"))
    assert np.array_equal(small.rgb, large.rgb)
    assert (small.grey, small.alpha is None) == (large.grey, large.alpha is None) == (grey, not alpha)
    assert not alpha or np.array_equal(small.alpha, large.alpha)


def test_a_deep_tiff_keeps_its_profile(tmp_path: Path) -> None:
    write_picture(tmp_path / "in.png", Picture(np.full((4, 5, 3), 1234, np.uint16), icc_profile=SRGB))
    Upscaler("bicubic").upscale_file(tmp_path / "in.png", tmp_path / "out.tif")
    with Image.open(tmp_path / "out.tif") as image:
        assert image.info["icc_profile"] == SRGB
    assert (read_picture(tmp_path / "out.tif").rgb == 1234).all()


@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
def test_large_grey_files_keep_profiles_of_grey_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: bytes
) -> None:
    profile = b"\0" * 16 + space + b"\0" * 108
    monkeypatch.setattr(upscaler, "LARGE", 1)
    monkeypatch.setattr(upscaler, "write_picture", None)
    grey = Picture(np.full((4, 5, 3), 9, np.uint8), grey=True, icc_profile=profile)
    Upscaler("bicubic").upscale_to(grey, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert image.info.get("icc_profile") == (profile if space == b"GRAY" else None)


def test_a_limit_of_memory_is_kept_by_writing_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaler, "write_picture", None)
    Upscaler("bicubic", max_memory=2**40).upscale_to(Picture(_pixels(8, 8, 3, np.uint8)), tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").rgb.shape == (32, 32, 3)


def test_beyond_four_gigabytes_tiff_becomes_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _pixels(8, 8, 3, np.uint8)
    monkeypatch.setattr(strip_writing, "_bytes_of", lambda _layout: 2**32)
    write_strips(tmp_path / "a.tif", Layout(8, 8, 3, pixels.dtype), [pixels])
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II\x2b\x00"
