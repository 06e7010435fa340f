"""Pictures that are damaged, that lie about their size, or that are merely large."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mvmsr.data import image_io, image_limits
from mvmsr.data.image_io import ImageError, image_size, read_picture, read_rgb
from mvmsr.data.picture import Picture


def png(width: int, height: int, lines: int, depth: int = 8) -> bytes:
    """A grey PNG with a header of that size, and that many black lines."""
    row = -(-width * depth // 8) + 1
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(row * lines), 1)),
        (b"IEND", b""),
    )
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def refusals(path: Path, max_pixels: int | None = None) -> set[str]:
    """What `image_size` and `read_picture` say."""
    said = set()
    for function in (image_size, read_picture):
        with pytest.raises(ImageError) as caught:
            function(path, max_pixels)
        said.add(str(caught.value))
    return said


def test_a_picture_above_the_limit_is_refused_by_its_header(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(60_000, 60_000, 1))
    (said,) = refusals(path)
    assert said == (
        f"{path}: declares 60000x60000 pixels, more than the limit of 268,435,456; cut it into parts, or raise the "
        "limit (--max-pixels) if the memory is there"
    )


def test_a_large_picture_in_a_tiny_file_is_refused_unless_allowed(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(8000, 8000, 1))
    (said,) = refusals(path)
    assert "declares 8000x8000 pixels in 1" in said
    assert "made to fill the memory; if you trust it" in said
    assert image_size(path, 8000 * 8000) == (8000, 8000)
    assert any("more than the limit of 63,999,999" in said for said in refusals(path, 8000 * 8000 - 1))


def test_pillows_own_limit_is_neither_seen_nor_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (60, 50), 77).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(tmp_path / "a.png") == (50, 60)
        assert (read_rgb(tmp_path / "a.png") == 77).all()
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.slow
def test_144_megapixels_are_read(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(png(12_000, 12_000, 12_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(path) == (12_000, 12_000)
        rgb = read_picture(path).rgb
    assert rgb.shape == (12_000, 12_000, 3)
    assert not rgb[::1000].any()


def test_files_that_are_no_files_or_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ImageError, match="is no regular file"):
        read_picture("/dev/zero")
    Image.new("L", (60, 50)).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(17 * 2**20)
    assert image_size(tmp_path / "a.png") == (50, 60)
    assert all("more than any image within the limit" in said for said in refusals(tmp_path / "a.png", 3000))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["plain", "tiff_lzw", "16 bit"])
def test_a_turned_tiff_is_upright(tmp_path: Path, orientation: int, kind: str):
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "turned.png")))
    path = tmp_path / "a.tif"
    if kind == "16 bit":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, array.astype(np.uint16) * 257, photometric="rgb", extratags=[(274, "H", 1, orientation)])
    else:
        Image.fromarray(array).save(path, exif=exif, compression=None if kind == "plain" else kind)
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(read_rgb(path), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize(
    "block", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_broken_exif_does_not_keep_a_picture_from_being_read(tmp_path: Path, suffix: str, block: bytes):
    path = tmp_path / f"a{suffix}"
    try:
        Image.new("RGB", (6, 4), (70, 70, 70)).save(path, exif=block)
    except Exception:  # nor does Pillow write it into this format
        pytest.skip("Pillow does not write such a file")
    assert image_size(path) == (4, 6)
    assert abs(read_rgb(path).astype(int) - 70).max() <= 2


@pytest.mark.parametrize("value", [99, 9, 0])
def test_an_orientation_without_sense_is_upright(tmp_path: Path, value: int):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == (4, 6)
    assert read_picture(tmp_path / "a.jpg").rgb.shape == (4, 6, 3)


def test_a_broken_profile_is_left_aside(tmp_path: Path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[100:300] = bytes(200)
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=bytes(profile), quality=100)
    red = read_picture(tmp_path / "a.jpg").rgb[8, 8].astype(int)
    assert red[0] > 240
    assert red[1:].max() < 15


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), SystemError("x"), TypeError("x"), AssertionError(), RecursionError()]
)
def test_whatever_a_decoder_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*_: object) -> None:
        raise error

    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    monkeypatch.setattr(image_io, "decode_8_bit", fail)
    with pytest.raises(ImageError, match=r"a\.png: is truncated or damaged"):
        read_picture(tmp_path / "a.png")


def test_memory_that_does_not_suffice_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise MemoryError

    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    monkeypatch.setattr(image_io, "decode_8_bit", fail)
    with pytest.raises(ImageError, match="does not fit into the memory"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_strips_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8))
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    options = {"transparency": 3} if mode == "P" else {}
    (noise.quantize(9) if mode == "P" else noise.convert(mode)).save(path, **options)
    whole = read_picture(path)
    monkeypatch.setattr(image_io, "_STRIP_PIXELS", 31 * 4)
    strips = read_picture(path)
    np.testing.assert_array_equal(whole.rgb, strips.rgb)
    assert (whole.alpha is None) == (strips.alpha is None) == (mode not in ("RGBA", "LA", "P"))
    if whole.alpha is not None:
        np.testing.assert_array_equal(whole.alpha, strips.alpha)


def test_bands_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    picture = Picture(*(rng.integers(0, 65536, shape).astype(np.uint16) for shape in ((9, 7, 3), (9, 7))))
    whole = picture.over_white().as_8_bit().rgb
    monkeypatch.setattr("mvmsr.data.picture._BAND_PIXELS", 14)
    np.testing.assert_array_equal(picture.over_white().as_8_bit().rgb, whole)


def test_a_long_gif_is_refused_at_its_second_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    frames = [Image.new("L", (4, 4), n) for n in range(40)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 40 frames"):
        read_picture(tmp_path / "a.gif")
    monkeypatch.setattr(image_io, "_COUNTED_BYTES", 100)
    with pytest.raises(ImageError, match="holds several frames"):
        read_picture(tmp_path / "a.gif")


def test_16_bits_that_only_one_decoder_understands(tmp_path: Path):
    data = cv2.imencode(".png", np.full((64, 64), 9, np.uint16))[1].tobytes()
    (tmp_path / "a.png").write_bytes(data[:60])
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_picture(tmp_path / "a.png")


def test_the_limit_is_lifted_for_the_header_alone():
    buffer = io.BytesIO()
    Image.new("L", (5, 5)).save(buffer, "PNG")
    before = Image.MAX_IMAGE_PIXELS
    with image_limits.opened(io.BytesIO(buffer.getvalue())) as image:
        assert before == Image.MAX_IMAGE_PIXELS
        assert image.size == (5, 5)
    with pytest.raises(Image.UnidentifiedImageError), image_limits.opened(io.BytesIO(b"text")):
        pass
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_chunk_that_claims_gigabytes_never_reaches_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The decoder allocates what the chunk declares before it finds the file too short: 3.6 GB for one of 600 bytes.
    data = bytearray(cv2.imencode(".png", np.zeros((24, 20), np.uint16))[1].tobytes())
    (tmp_path / "whole.png").write_bytes(data)
    assert read_picture(tmp_path / "whole.png").rgb.shape == (24, 20, 3)
    (tmp_path / "more.png").write_bytes(bytes(data) + b"behind the end")
    assert read_picture(tmp_path / "more.png").rgb.shape == (24, 20, 3)
    start = data.index(b"IDAT") - 4
    data[start : start + 4] = (0xE1000000).to_bytes(4, "big")
    (tmp_path / "lies.png").write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"lies\.png: is truncated or damaged"):
        read_picture(tmp_path / "lies.png")
