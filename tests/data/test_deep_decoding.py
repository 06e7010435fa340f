"""Pictures of 16 bits a channel, written by other programs' conventions, mean what they mean there."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from mvmsr.data.image_io import ImageError, image_size, read_picture

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 65536, (5, 7, 3), np.uint16)
ALPHA = RNG.integers(1, 65536, (5, 7, 1), np.uint16)


def _tiff(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, metadata=None, **options)
    return path


def _png(path: Path, pixels: np.ndarray, colour_type: int, transparent: bytes = b"") -> Path:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *([chunk(b"tRNS", transparent)] if transparent else [])]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])
    )
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_channels_side_by_side_and_one_after_another(
    compression: str | None, planar: str, orientation: int, tmp_path: Path
) -> None:
    pixels = RGB if planar == "contig" else RGB.transpose(2, 0, 1)
    path = _tiff(
        tmp_path / "a.tif",
        np.ascontiguousarray(pixels),
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        extratags=[(274, 3, 1, orientation, True)],
    )
    expected = RGB if orientation == 1 else np.rot90(RGB, -1)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.rgb, expected)
    assert picture.rgb.shape[:2] == image_size(path)
    assert not picture.grey


def test_white_may_be_zero(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.tif", RGB[..., 0], photometric="miniswhite")
    picture = read_picture(path)
    assert picture.grey
    np.testing.assert_array_equal(picture.rgb[..., 1], 65535 - RGB[..., 0])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_may_be_multiplied_in(planar: str, tmp_path: Path) -> None:
    multiplied = (RGB.astype(np.uint64) * ALPHA + 32767) // 65535
    pixels = np.concatenate([multiplied.astype(np.uint16), ALPHA], axis=2)
    if planar == "separate":
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    for kind, expected in (("assocalpha", RGB), ("unassalpha", multiplied)):
        path = _tiff(tmp_path / f"{kind}.tif", pixels, photometric="rgb", extrasamples=[kind], planarconfig=planar)
        picture = read_picture(path)
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha, ALPHA[..., 0])
        error = np.abs(picture.rgb.astype(int) - expected.astype(int))
        assert (error <= 65535 / ALPHA).all()  # what the multiplication rounded away


def test_colours_without_any_cover_stay_as_stored(tmp_path: Path) -> None:
    pixels = np.array([[[0, 7, 100, 0], [10, 20, 30, 60]]], np.uint16)
    path = _tiff(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    assert read_picture(path).rgb.tolist() == [[[0, 7, 100], [10923, 21845, 32768]]]


def test_cmyk_of_16_bits_is_refused_by_name(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.tif", np.concatenate([RGB, ALPHA], axis=2), photometric="separated")
    with pytest.raises(ImageError, match=r"holds 16-bit CMYK values; convert it to RGB first"):
        read_picture(path)


def test_planes_in_a_compression_that_is_not_known_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _tiff(tmp_path / "a.tif", RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")

    def asarray(*_: Any, **__: Any) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", asarray)
    with pytest.raises(ImageError, match="in a compression that is not known; save it with interleaved channels"):
        read_picture(path)


@pytest.mark.parametrize(("kind", "channels"), [(b"P5", 1), (b"P6", 3)])
@pytest.mark.parametrize("largest", [1023, 4095, 65535])
def test_netpbm_files_name_their_white(kind: bytes, channels: int, largest: int, tmp_path: Path) -> None:
    pixels = np.minimum(RGB, largest).astype(">u2")[..., :channels]
    pixels[0, 0] = largest
    path = tmp_path / "a.ppm"
    path.write_bytes(kind + b"\n# made by hand\n7 5\n%d\n" % largest + pixels.tobytes())
    picture = read_picture(path)
    expected = np.round(pixels.astype(float) * 65535 / largest)
    np.testing.assert_array_equal(picture.rgb, np.broadcast_to(expected, (5, 7, 3)))
    assert picture.grey == (channels == 1)
    assert picture.rgb[0, 0].tolist() == [65535] * 3


def test_a_grey_png_with_alpha_is_grey(tmp_path: Path) -> None:
    picture = read_picture(_png(tmp_path / "a.png", np.concatenate([RGB[..., :1], ALPHA], axis=2), 4))
    assert picture.grey
    np.testing.assert_array_equal(picture.rgb[..., 2], RGB[..., 0])
    np.testing.assert_array_equal(picture.alpha, ALPHA[..., 0])


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_one_colour_of_a_png_may_be_transparent(colour_type: int, channels: int, tmp_path: Path) -> None:
    pixels = RGB[..., :channels]
    path = _png(tmp_path / "a.png", pixels, colour_type, pixels[2, 3].astype(">u2").tobytes())
    picture = read_picture(path)
    expected = np.full((5, 7), 65535)
    expected[2, 3] = 0
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, expected)
    np.testing.assert_array_equal(picture.rgb[..., :channels], pixels)
    assert picture.grey == (channels == 1)


def test_a_turned_png_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB[..., 0]).save(tmp_path / "a.png", exif=exif.tobytes())
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.rgb[..., 0], np.rot90(RGB[..., 0], -1))
    assert picture.rgb.shape[:2] == image_size(tmp_path / "a.png")
