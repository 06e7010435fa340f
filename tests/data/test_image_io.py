from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from mvmsr.data import image_writing
from mvmsr.data.image_io import ImageError, Picture, image_size, read_picture, read_rgb, write_picture, write_rgb

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    Image.fromarray(array, mode).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_round_trip(tmp_path: Path, picture, suffix: str):
    path = tmp_path / f"a{suffix}"
    write_rgb(path, picture(13, 17))
    np.testing.assert_array_equal(read_rgb(path), picture(13, 17))
    assert image_size(path) == (13, 17)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_round_trip(tmp_path: Path, suffix: str):
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 48, 3))
    for quality, limit in ((95, 4), (30, 25)):
        write_picture(tmp_path / f"{quality}{suffix}", Picture(smooth), quality=quality)
        assert np.abs(read_rgb(tmp_path / f"{quality}{suffix}").astype(int) - smooth).max() <= limit
    assert (tmp_path / f"30{suffix}").stat().st_size < (tmp_path / f"95{suffix}").stat().st_size


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kind", ["rgb", "alpha", "grey"])
def test_16_bit_round_trip(tmp_path: Path, suffix: str, kind: str):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    if kind == "grey":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    alpha = rng.integers(0, 65536, (9, 11)).astype(np.uint16) if kind == "alpha" else None
    write_picture(tmp_path / f"a{suffix}", Picture(rgb, alpha, grey=kind == "grey"))
    back = read_picture(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.rgb, rgb)
    assert back.grey == (kind == "grey")
    if alpha is None:
        assert back.alpha is None
    else:
        np.testing.assert_array_equal(back.alpha, alpha)


def test_16_bit_values_are_rounded_to_8(tmp_path: Path):
    values = np.array([0, 128, 129, 257, 32768, 65406, 65407, 65535], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat(values[None, :, None], 3, axis=2))
    assert read_rgb(tmp_path / "a.png")[0, :, 0].tolist() == [round(v / 257) for v in values.tolist()]


def test_16_bit_png_keeps_profile_and_exif(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010E] = "a title"
    written = Picture(np.full((4, 4, 3), 4000, np.uint16), icc_profile=SRGB, exif=exif.tobytes())
    write_picture(tmp_path / "a.png", written)
    back = read_picture(tmp_path / "a.png")
    assert back.icc_profile == SRGB
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif()[0x010E] == "a title"
    data = (tmp_path / "a.png").read_bytes()
    assert data[data.index(b"eXIf") + 4 :][:4] in (b"II*\0", b"MM\0*")  # the chunk has none of a JPEG's "Exif\0\0"


@pytest.mark.parametrize(("quality", "sampling"), [(89, 2), (90, 0), (95, 0)])
def test_colours_of_good_jpegs_keep_their_resolution(tmp_path: Path, picture, quality: int, sampling: int):
    write_picture(tmp_path / "a.jpg", Picture(picture(16, 16)), quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == sampling


def test_rows_of_more_than_a_million_pixels():
    wide = Picture(np.full((2, 2**20 + 1, 3), 257, np.uint16), np.full((2, 2**20 + 1), 65535, np.uint16))
    assert (wide.over_white().as_8_bit().rgb == 1).all()


def test_grey_palette_one_bit_and_alpha(tmp_path: Path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    got = read_picture(save(tmp_path / "grey.png", grey))
    assert got.grey
    np.testing.assert_array_equal(got.rgb, np.dstack([grey] * 3))

    got = read_picture(save(tmp_path / "la.png", np.dstack([grey, 255 - grey])))
    assert got.grey
    np.testing.assert_array_equal(got.alpha, 255 - grey)

    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "bit.png")[..., 1], np.where(grey > 100, 255, 0))
    Image.fromarray(grey > 100).save(tmp_path / "clear_bit.png", transparency=0)
    np.testing.assert_array_equal(read_picture(tmp_path / "clear_bit.png").alpha, np.where(grey > 100, 255, 0))

    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    palette.save(tmp_path / "palette.png")
    assert read_rgb(tmp_path / "palette.png").tolist() == [[[255, 0, 0], [0, 255, 0]], [[10, 20, 30], [0, 255, 0]]]
    palette.save(tmp_path / "clear.png", transparency=1)
    got = read_picture(tmp_path / "clear.png")
    assert got.alpha.tolist() == [[255, 0], [255, 0]]
    # Without alpha, transparent parts are white.
    assert read_rgb(tmp_path / "clear.png").tolist() == [
        [[255, 0, 0], [255, 255, 255]],
        [[10, 20, 30], [255, 255, 255]],
    ]


def test_half_transparent_red_over_white():
    got = Picture(np.array([[[255, 0, 0]]], np.uint8), np.array([[51]], np.uint8)).over_white()
    assert got.rgb.tolist() == [[[255, 204, 204]]]
    assert got.alpha is None


def test_cmyk_becomes_rgb(tmp_path: Path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red = read_picture(tmp_path / "a.jpg").rgb[8, 8].astype(int)
    assert red[0] > 240
    assert red[1:].max() < 15


def ink_profile() -> bytes:
    """A colour profile of CMYK by which black alone darkens, and no ink colours: L = 100 (1 - K)."""
    nodes = b"".join(bytes((255 * (1 - k), 128, 128)) for _, _, _, k in itertools.product((0, 1), repeat=4))
    matrix = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + bytes(range(256)) * 4 + nodes + bytes(range(256)) * 3
    body = struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    white = struct.pack(">3i", 63190, 65536, 54061)
    return header + bytes(12) + b"acsp" + bytes(28) + white + bytes(48) + body


def test_cmyk_becomes_rgb_by_its_own_profile(tmp_path: Path):
    inks = np.array([[[255, 0, 0, 0], [0, 200, 9, 0], [255, 255, 255, 119], [0, 0, 0, 255]]], np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif", icc_profile=ink_profile())
    picture = read_picture(tmp_path / "a.tif")
    expected = [255, 255, 127, 0]  # L = 53.3 is the middle of sRGB
    np.testing.assert_allclose(picture.rgb.astype(int), np.array(expected)[None, :, None] + np.zeros(3), atol=1)
    assert picture.icc_profile is None  # it is no profile of what there is now


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_reset(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    path = save(tmp_path / "a.png", array, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    got = read_picture(path)
    np.testing.assert_array_equal(got.rgb, expected)
    assert image_size(path) == expected.shape[:2]
    write_picture(tmp_path / "b.png", got)
    with Image.open(tmp_path / "b.png") as image:
        assert image.getexif()[0x0112] == 1
        assert image.getexif()[0x010F] == "maker"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_is_kept(tmp_path: Path, picture, suffix: str):
    write_picture(tmp_path / f"a{suffix}", Picture(picture(8, 8), icc_profile=SRGB))
    assert read_picture(tmp_path / f"a{suffix}").icc_profile == SRGB


def test_a_profile_of_another_colour_space_is_not_written(tmp_path: Path, picture):
    grey = np.repeat(picture(8, 8)[..., :1], 3, axis=2)
    write_picture(tmp_path / "a.png", Picture(grey, grey=True, icc_profile=SRGB))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert "icc_profile" not in image.info


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_formats_without_alpha_get_white(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture):
    clear = Picture(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))
    write_picture(tmp_path / f"a{suffix}", clear)
    assert (read_rgb(tmp_path / f"a{suffix}") == 255).all()
    assert "over white" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_formats_with_alpha_keep_it(tmp_path: Path, picture, suffix: str):
    alpha = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    write_picture(tmp_path / f"a{suffix}", Picture(picture(8, 8), alpha))
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").alpha, alpha)


def test_unicode_paths(tmp_path: Path, picture):
    for depth in (np.uint8, np.uint16):
        path = tmp_path / "Überschärfe 写真" / f"é {depth.__name__}.png"
        write_rgb(path, picture(5, 6).astype(depth))
        np.testing.assert_array_equal(read_picture(path).rgb, picture(5, 6))


def bytes_of(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if kind == "animated":
        frames = [Image.fromarray(noise), Image.fromarray(255 - noise)]
        frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    elif kind == "float":
        Image.fromarray(noise[..., 0].astype(np.float32)).save(buffer, "TIFF")
    elif kind == "truncated 16 bit":
        return cv2.imencode(".png", noise.astype(np.uint16) * 200)[1].tobytes()[:4000]
    else:
        Image.fromarray(noise).save(buffer, "JPEG" if kind == "truncated jpeg" else "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"this is no image at all", "not an image"),
        ("half.png", bytes_of("truncated")[:6000], "truncated or damaged"),
        ("half.jpg", bytes_of("truncated jpeg")[:2000], "truncated or damaged"),
        ("moving.png", bytes_of("animated"), "holds 2 frames"),
        ("float.tif", bytes_of("float"), "32-bit values"),
        ("head.png", bytes_of("truncated")[:20], "truncated or damaged"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, message: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_rgb(tmp_path / name)
    assert name in str(caught.value)
    assert "; " in str(caught.value)  # the remedy follows the cause


def test_a_size_is_known_without_decoding(tmp_path: Path):
    (tmp_path / "half.png").write_bytes(bytes_of("truncated")[:6000])
    assert image_size(tmp_path / "half.png") == (64, 64)


def test_truncated_16_bit_file_is_refused(tmp_path: Path):
    (tmp_path / "half.png").write_bytes(bytes_of("truncated 16 bit"))
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_rgb(tmp_path / "half.png")


def test_missing_file_and_folder(tmp_path: Path):
    for function in (read_rgb, image_size):
        with pytest.raises(ImageError, match="No such file"):
            function(tmp_path / "none.png")
        with pytest.raises(ImageError, match="directory"):
            function(tmp_path)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("a.jpg", np.uint16, "cannot hold 16 bits"),
        ("a.webp", np.uint16, "cannot hold 16 bits"),
        ("a.xyz", np.uint8, "cannot write .xyz"),
        ("a", np.uint8, "without suffix"),
    ],
)
def test_formats_that_cannot_be_written(tmp_path: Path, name: str, dtype: type, message: str):
    with pytest.raises(ImageError, match=message):
        write_rgb(tmp_path / name, np.zeros((4, 4, 3), dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rgb", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    ],
)
def test_arrays_that_are_no_picture(tmp_path: Path, rgb: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        write_rgb(tmp_path / "a.png", rgb)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, picture, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    write_rgb(path, picture(8, 8))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(image_writing.os, "replace", fail)
    with pytest.raises(ImageError, match="disk full"):
        write_rgb(path, picture(8, 8, seed=1))
    np.testing.assert_array_equal(read_rgb(path), picture(8, 8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(("suffix", "kept"), [(".png", True), (".jpg", True), (".webp", False)])
def test_a_grey_profile_stays_with_one_channel(tmp_path: Path, suffix: str, kept: bool):
    profile = b"\0" * 16 + b"GRAY" + b"\0" * 108
    write_picture(tmp_path / f"a{suffix}", Picture(np.full((4, 4, 3), 9, np.uint8), grey=True, icc_profile=profile))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert ("icc_profile" in image.info) == kept
        assert (image.mode == "L") == kept
