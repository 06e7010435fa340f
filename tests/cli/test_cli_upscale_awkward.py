"""A folder of awkward files: each comes out right or is refused by name, and the exit status tells."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from typer.testing import CliRunner

from mvmsr.cli import app
from mvmsr.data import image_io
from mvmsr.data.image_io import Picture, read_picture, write_picture
from mvmsr.data.imresize import imresize

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


def _noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def _good(folder: Path) -> dict[str, tuple[int, int]]:
    """Writes a file of every kind; the size of each, upright."""
    folder.mkdir(parents=True)
    Image.fromarray(_noise(6, 8, 3)).save(folder / "rgb.png", icc_profile=SRGB)
    Image.fromarray(_noise(6, 8)).save(folder / "grey.png")
    Image.fromarray(_noise(6, 8) > 99).save(folder / "one_bit.png")
    Image.fromarray(_noise(6, 8, 4)).save(folder / "alpha.png")
    Image.fromarray(_noise(6, 8, 2), "LA").save(folder / "grey_alpha.png")
    palette = Image.fromarray(_noise(6, 8) % 3, "P")
    palette.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0])
    palette.save(folder / "palette.png", transparency=1)
    palette.save(folder / "still.gif")
    Image.fromarray(_noise(6, 8, 4), "CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(_noise(6, 8, 3)).save(folder / "photo.jpeg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_noise(6, 8, 3)).save(folder / "turned.jpg", exif=exif.tobytes())
    Image.fromarray(_noise(6, 8, 3)).save(folder / "w.webp", lossless=True)
    Image.fromarray(_noise(6, 8, 3)).save(folder / "b.bmp")
    Image.fromarray(_noise(6, 8, 3)).save(folder / "t.tif")
    for suffix in ("png", "tiff"):
        write_picture(folder / f"deep.{suffix}", Picture(_noise(6, 8, 3, dtype=np.uint16)))
    Image.fromarray(_noise(1, 1, 3)).save(folder / "dot.png")
    Image.fromarray(_noise(7, 5000, 3)).save(folder / "ribbon.png")
    Image.fromarray(_noise(6, 8, 3)).save(folder / "Größe 写真 [1] & more.png")
    Image.fromarray(_noise(6, 8, 3)).save(folder / "called_png.jpg", "PNG")  # read by content, not by name
    sizes = {path.name: (6, 8) for path in folder.iterdir()}
    if features.check("avif"):
        Image.fromarray(_noise(6, 8, 3)).save(folder / "a.avif", quality=100)
        sizes["a.avif"] = (6, 8)
    return {**sizes, "turned.jpg": (8, 6), "dot.png": (1, 1), "ribbon.png": (7, 5000)}


def _bad(folder: Path) -> dict[str, str]:
    """Writes files that cannot be done; what the refusal of each says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.png").write_bytes(b"")
    Image.fromarray(_noise(60, 60, 3)).save(folder / "whole.png")
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:900])
    Image.fromarray(_noise(60, 60, 3)).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])
    (folder / "whole.png").unlink()
    (folder / "whole.jpg").unlink()
    (folder / "text.png").write_text("no picture at all")
    (folder / "bomb.png").write_bytes(_png_of_size(100_000, 100_000))
    frames = [Image.fromarray(_noise(4, 4)), Image.fromarray(255 - _noise(4, 4))]
    for name in ("film.gif", "moving.webp", "moving.png", "pages.tif"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    return {
        "empty.png": "is empty",
        "cut.png": "truncated or damaged",
        "cut.jpg": "truncated or damaged",
        "text.png": "not an image in a known format",
        "bomb.png": "more than the limit",
        **dict.fromkeys(("film.gif", "moving.webp", "moving.png", "pages.tif"), "holds 2 frames"),
    }


def _png_of_size(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND")
    framed = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_every_kind_is_enlarged_to_its_size_depth_and_channels(tmp_path: Path) -> None:
    sizes = _good(tmp_path / "in")
    result = _run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", "bicubic", "--outscale", "2")
    assert result.exit_code == 0, result.output
    assert f"{len(sizes)} of {len(sizes)} done" in result.output
    for name, (height, width) in sizes.items():
        source = read_picture(tmp_path / "in" / name)
        target = tmp_path / "out" / (name if Path(name).suffix != ".gif" else "still.png")
        picture = read_picture(target)
        assert picture.rgb.shape == (2 * height, 2 * width, 3), name
        assert picture.rgb.dtype == source.rgb.dtype, name
        assert picture.icc_profile == source.icc_profile, name
        assert (picture.alpha is None) == (source.alpha is None), name
        if target.suffix in (".png", ".tif", ".tiff", ".bmp") and source.alpha is None and not source.grey:
            expected = imresize(source.rgb, scale=2)
            assert np.abs(picture.rgb.astype(int) - expected).max() <= 1, name
    assert read_picture(tmp_path / "out" / "grey.png").grey


def test_what_cannot_be_done_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    refusals = _bad(tmp_path / "in")
    Image.fromarray(_noise(6, 8, 3)).save(tmp_path / "in" / "good.png")
    before = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    result = _run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", "bicubic")
    assert result.exit_code == 1
    assert f"1 of {len(refusals) + 1} done" in result.output
    for name, reason in refusals.items():
        line = next((line for line in result.output.splitlines() if f"{name}: " in line), "")
        assert reason in line, (name, line)
        assert result.output.count(f"{name}: ") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before


def test_no_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("locked.png", "open.png"):
        Image.fromarray(_noise(4, 4, 3)).save(tmp_path / name)
    reading = Path.read_bytes

    def refuse(path: Path) -> bytes:  # as root, rights do not hold: the system's answer is simulated
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied")
        return reading(path)

    monkeypatch.setattr(image_io.Path, "read_bytes", refuse)
    result = _run("upscale", tmp_path, "-o", tmp_path / "out", "--model", "bicubic")
    assert result.exit_code == 1
    assert "locked.png: cannot be read (Permission denied)" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["open.png"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    Image.fromarray(_noise(4, 4, 3)).save(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file, not a folder")
    result = _run("upscale", tmp_path / "a.png", "-o", tmp_path / "out" / "below", "--model", "bicubic")
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    result = _run("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--model", "bicubic")
    assert result.exit_code == 2
    assert "out is a file; name a folder" in result.output
    assert (tmp_path / "out").read_text() == "a file, not a folder"


def test_done_ones_are_skipped_when_asked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(_noise(4, 4, 3)).save(tmp_path / f"{name}.png")
    arguments = ("upscale", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out", "--model", "bicubic")
    assert _run(*arguments[:2], *arguments[3:]).exit_code == 0
    (tmp_path / "out" / "a.png").write_text("mine")
    result = _run(*arguments, "--skip-done")
    assert result.exit_code == 0, result.output
    assert "1 of 1 done, 1 existed already" in result.output
    assert (tmp_path / "out" / "a.png").read_text() == "mine"
    both = _run(*arguments, "--skip-done", "--overwrite")
    assert both.exit_code == 2
    assert "contradict" in both.output


@pytest.mark.parametrize("format_", ["jpg", "webp", *(["avif"] if features.check("avif") else [])])
def test_quality_is_that_of_the_file(tmp_path: Path, format_: str) -> None:
    Image.fromarray(_noise(24, 24, 3)).save(tmp_path / "a.png")
    sizes = []
    for quality in (30, 95):
        out = tmp_path / str(quality)
        arguments = ("upscale", tmp_path / "a.png", "-o", out, "--model", "bicubic", "--format", format_)
        assert _run(*arguments, "--quality", quality).exit_code == 0
        sizes.append((out / f"a.{format_}").stat().st_size)
    assert sizes[0] < 0.6 * sizes[1]


def test_a_side_that_a_format_cannot_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    Image.fromarray(_noise(1, 5000, 3)).save(tmp_path / "a.png")
    result = _run("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--model", "bicubic", "--format", "webp")
    assert result.exit_code == 1
    assert ".webp holds at most 16383 pixels a side, the result has 20000 x 4" in result.output


@pytest.mark.parametrize("amount", ["2", "much", "-1G"])
def test_amounts_of_memory_that_are_none(tmp_path: Path, amount: str) -> None:
    Image.fromarray(_noise(4, 4, 3)).save(tmp_path / "a.png")
    result = _run("upscale", tmp_path / "a.png", "--model", "bicubic", f"--max-memory={amount}")
    assert result.exit_code == 2
    assert "such as 2G" in result.output


@pytest.mark.parametrize("option", ["--tile=x", "--max-memory=lots"])
def test_options_are_checked_also_where_nothing_is_to_be_done(tmp_path: Path, option: str) -> None:
    Image.fromarray(_noise(4, 4, 3)).save(tmp_path / "a.png")
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--model", "bicubic", "--skip-done")
    assert _run(*arguments).exit_code == 0
    assert _run(*arguments).exit_code == 0
    assert _run(*arguments, option).exit_code == 2


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    import torch

    from mvmsr.archs import SRResNet
    from mvmsr.inference import save_weights

    torch.manual_seed(0)
    options = {"num_feat": 8, "num_block": 1}
    weights = save_weights(tmp_path / "w.safetensors", SRResNet(**options).state_dict(), "SRResNet", options, 4)
    Image.fromarray(_noise(40, 40, 3)).save(tmp_path / "a.png")
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--model", weights, "--device", "cpu")
    result = _run(*arguments, "--max-memory", "1M")
    assert result.exit_code == 1
    assert "raise the limit" in result.output
    assert _run(*arguments, "--max-memory", "4G").exit_code == 0
    assert read_picture(tmp_path / "out" / "a.png").rgb.shape == (160, 160, 3)


def test_without_a_model_the_default_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mvmsr.archs import Compact
    from mvmsr.inference import Upscaler, save_weights

    torch.manual_seed(0)
    options = {"num_feat": 8, "num_conv": 1}
    monkeypatch.setattr("mvmsr.inference.weights.BUILTIN_DIR", tmp_path / "models")
    path = tmp_path / "models" / "fast.safetensors"
    save_weights(path, Compact(**options).state_dict(), "Compact", options, 4, {"title": "quick"}, half=True)
    write_picture(tmp_path / "photo.png", Picture(_noise(6, 7, 3)))
    monkeypatch.chdir(tmp_path)
    result = _run("upscale", "photo.png")
    assert result.exit_code == 0, result.output
    expected = Upscaler(path).upscale_array(_noise(6, 7, 3))
    assert np.array_equal(read_picture("upscaled/photo.png").rgb, expected)


def test_an_unknown_model_is_reported_though_nothing_is_to_be_done(tmp_path: Path) -> None:
    Image.fromarray(_noise(4, 4, 3)).save(tmp_path / "a.png")
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--skip-done", "--model")
    assert _run(*arguments, "bicubic").exit_code == 0
    result = _run(*arguments, "fsat")
    assert result.exit_code == 2
    assert "Did you mean 'fast'?" in result.output
    for model in ("fast", "bicubic"):
        assert _run(*arguments, model).exit_code == 0
