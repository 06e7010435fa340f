from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image, ImageCms
from typer.testing import CliRunner

from mvmsr.archs import Compact, SRResNet
from mvmsr.cli import app, export, models, upscale
from mvmsr.data.image_io import Picture, read_picture, write_picture
from mvmsr.inference import Restorer, Upscaler, save_weights

ARGS = {"num_feat": 8, "num_block": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return save_weights(path, SRResNet(**ARGS).state_dict(), "SRResNet", ARGS, 4)


def _run(*arguments: object) -> Any:
    app = typer.Typer()
    app.command("upscale")(upscale.command)
    app.command("export")(export.command)
    app.add_typer(models.app, name="models")
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "400"})


def _noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_depth_alpha_and_grey_survive(
    weights: Path, tmp_path: Path, suffix: str, dtype: type, alpha: bool, grey: bool
) -> None:
    rgb = np.repeat(_noise(9, 7, 1, dtype=dtype), 3, 2) if grey else _noise(9, 7, 3, dtype=dtype)
    transparency = _noise(9, 7, dtype=dtype) if alpha else None
    write_picture(tmp_path / f"in{suffix}", Picture(rgb, transparency, grey))
    source = read_picture(tmp_path / f"in{suffix}")
    result = _run("upscale", tmp_path / f"in{suffix}", "-o", tmp_path / "out", "--model", weights, "--device", "cpu")
    assert result.exit_code == 0, result.output
    enlarged = read_picture(tmp_path / "out" / f"in{suffix}")
    assert enlarged.rgb.shape == (36, 28, 3)
    assert enlarged.rgb.dtype == dtype
    assert (enlarged.alpha is not None) == alpha
    assert enlarged.grey == source.grey
    expected = Upscaler(weights, device="cpu").upscale(source)
    assert np.array_equal(enlarged.rgb, expected.rgb)
    assert alpha is False or np.array_equal(enlarged.alpha, expected.alpha)


def test_orientation_is_applied_once_and_profile_and_exif_are_kept(weights: Path, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"  # to be shown turned by a quarter
    Image.fromarray(_noise(6, 10, 3)).save(tmp_path / "in.png", exif=exif.tobytes(), icc_profile=profile)
    assert _run("upscale", tmp_path / "in.png", "-o", tmp_path / "out", "--model", weights).exit_code == 0
    with Image.open(tmp_path / "out" / "in.png") as image:
        assert image.size == (24, 40)
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "Maker"
        assert image.info["icc_profile"] == profile


def test_one_pixel(weights: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "dot.png", Picture(_noise(1, 1, 3)))
    result = _run(
        "upscale", tmp_path / "dot.png", "-o", tmp_path / "out", "--model", weights, "--tile", 1, "--ensemble"
    )
    assert result.exit_code == 0, result.output
    assert read_picture(tmp_path / "out" / "dot.png").rgb.shape == (4, 4, 3)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(_noise(8, 8) % 4, "P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0, 9, 9, 9])
    image.save(tmp_path / "in.png", transparency=2)
    assert _run("upscale", tmp_path / "in.png", "-o", tmp_path / "out", "--model", "bicubic").exit_code == 0
    assert read_picture(tmp_path / "out" / "in.png").alpha is not None


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / "in" / f"{name}.png", Picture(_noise(4, 4, 3)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    arguments = ("upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", "bicubic")
    result = _run(*arguments)
    assert result.exit_code == 1
    assert "a.png exists and is left alone; --overwrite replaces it" in result.output
    assert "1 of 2 done" in result.output
    assert (tmp_path / "out" / "a.png").read_text() == "mine"
    assert read_picture(tmp_path / "out" / "b.png").rgb.shape == (16, 16, 3)
    assert _run(*arguments, "--overwrite").exit_code == 0
    assert read_picture(tmp_path / "out" / "a.png").rgb.shape == (16, 16, 3)


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(_noise(4, 4, 3)))
    before = (tmp_path / "a.png").read_bytes()
    result = _run("upscale", tmp_path / "a.png", "-o", tmp_path, "--model", "bicubic", "--overwrite")
    assert result.exit_code == 1
    assert "would replace an input" in result.output
    assert (tmp_path / "a.png").read_bytes() == before
    assert _run("upscale", tmp_path / "a.png", "-o", tmp_path, "--model", "bicubic", "--suffix", "_x4").exit_code == 0
    assert (tmp_path / "a_x4.png").exists()


def test_two_inputs_are_not_written_to_one_result(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp"):
        write_picture(tmp_path / f"a{suffix}", Picture(_noise(4, 4, 3)))
    result = _run("upscale", tmp_path, "-o", tmp_path / "out", "--model", "bicubic", "--format", "png")
    assert result.exit_code == 1
    assert "as " in result.output
    assert "run them separately" in result.output
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_failing_file_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "good.png", Picture(_noise(4, 4, 3)))
    write_picture(tmp_path / "in" / "cut.png", Picture(_noise(40, 40, 3)))
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "cut.png").read_bytes()[:500])
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    (tmp_path / "in" / "notes.txt").write_text("not even called one")
    result = _run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", "bicubic")
    assert result.exit_code == 1
    for name in ("cut.png", "text.jpg"):
        assert f"{name}: is" in result.output
    assert "notes.txt" not in result.output
    assert "1 of 3 done" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


def test_nothing_that_can_be_read_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = _run("upscale", tmp_path / "broken.jpg", "-o", tmp_path / "out", "--model", "bicubic")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "broken.jpg" in result.output
    assert "0 of 1 done" in result.output


@pytest.mark.parametrize("inputs", [(".", "-r"), ("**/*.png",)])
def test_results_within_the_folder_are_no_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "sub/b"):
        write_picture(tmp_path / f"{name}.png", Picture(_noise(4, 4, 3)))
    assert _run("upscale", *inputs, "--model", "bicubic").exit_code == 0
    write_picture(tmp_path / "new.png", Picture(_noise(4, 4, 3)))
    again = _run("upscale", *inputs, "--model", "bicubic", "--skip-done")
    assert again.exit_code == 0, again.output
    assert "1 of 1 done, 2 existed already" in again.output
    assert _run("upscale", "upscaled/a.png", "--model", "bicubic", "-o", "twice").exit_code == 0  # asked for by name
    assert _run("upscale", "upscaled", "--model", "bicubic", "-o", ".", "--suffix", "_16").exit_code == 0


def test_a_network_that_fails_on_one_file_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (4, 5):
        write_picture(tmp_path / "in" / f"{width}.png", Picture(_noise(4, width, 3)))

    class Picky(torch.nn.Module):
        def forward(self, lq: torch.Tensor) -> torch.Tensor:
            if lq.shape[-1] == 4:
                raise RuntimeError("no room for four")
            return lq

    monkeypatch.setattr(upscale, "_upscaler", lambda *_: Upscaler(Restorer(Picky(), 1, "cpu", "32")))
    result = _run("upscale", tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "4.png: no room for four" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["5.png"]


def test_folders_globs_and_recursion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.jpg", "deep/c.png", "deep/a.png"):
        write_picture(tmp_path / "in" / name, Picture(_noise(4, 4, 3)))
    monkeypatch.chdir(tmp_path)

    def results(*arguments: str) -> list[str]:
        outcome = _run("upscale", *arguments, "-o", "out", "--model", "bicubic", "--overwrite")
        assert outcome.exit_code == 0, outcome.output
        found = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file())
        for path in found:
            (Path("out") / path).unlink()
        return found

    assert results("in") == ["a.png", "b.jpg"]
    assert results("in", "--recursive") == ["a.png", "b.jpg", "deep/a.png", "deep/c.png"]
    assert results("in/*.png") == ["a.png"]
    assert results("in/**/c.png") == ["c.png"]
    assert results("in/a.png", "in") == ["a.png", "b.jpg"]
    assert results("in", "--format", "webp", "--suffix", "_big") == ["a_big.webp", "b_big.webp"]


@pytest.mark.parametrize("missing", ["absent.png", "absent/*.png"])
def test_inputs_that_mean_nothing(tmp_path: Path, missing: str) -> None:
    result = _run("upscale", missing, "-o", tmp_path / "out", "--model", "bicubic")
    assert result.exit_code == 1
    assert f"{missing}: no such image, folder or match" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no --model was named"),
        (["--model", "absent"], "neither a file, nor a run directory, nor a built-in name"),
        (["--model", "bicubic", "--tile", "big"], "expected `auto` or a number of pixels"),
        (["--model", "bicubic", "--outscale", "0"], "outscale must be above 0"),
    ],
)
def test_usage_errors(tmp_path: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmsr.inference.weights.BUILTIN_DIR", tmp_path / "none")
    write_picture(tmp_path / "a.png", Picture(_noise(4, 4, 3)))
    result = _run("upscale", tmp_path / "a.png", "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_device_or_precision_that_is_not_there(weights: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(_noise(4, 4, 3)))
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--model", weights, "--device", "cpu")
    result = _run(*arguments, "--precision", "16-mixed")
    assert result.exit_code == 2
    assert "needs a GPU" in result.output


def test_outscale(weights: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(_noise(5, 6, 3)))
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--model", weights)
    assert _run(*arguments, "--outscale", "1.5").exit_code == 0
    assert read_picture(tmp_path / "out" / "a.png").rgb.shape == (8, 9, 3)


def test_animations_are_refused_by_name(tmp_path: Path) -> None:
    frames = [Image.fromarray(_noise(4, 4)), Image.fromarray(255 - _noise(4, 4))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "moving.gif").write_bytes(buffer.getvalue())
    result = _run("upscale", tmp_path / "moving.gif", "-o", tmp_path / "out", "--model", "bicubic")
    assert result.exit_code == 1
    assert "moving.gif: holds 2 frames" in result.output


def test_more_pixels_than_allowed_are_refused_and_fewer_done(tmp_path: Path) -> None:
    write_picture(tmp_path / "large.png", Picture(_noise(9, 7, 3)))
    write_picture(tmp_path / "small.png", Picture(_noise(8, 7, 3)))
    options = ("--model", "bicubic", "-o", tmp_path / "out", "--max-pixels", 8 * 7)
    result = _run("upscale", tmp_path / "large.png", tmp_path / "small.png", *options)
    assert result.exit_code == 1
    assert "large.png: declares 7x9 pixels, more than the limit of 56;" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small.png"]


def test_models_info_and_list(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run("models", "info", weights)
    assert result.exit_code == 0, result.output
    for text in ("SRResNet", "num_feat=8", "x4", "11,576", "multiply-adds"):
        assert text in result.output
    monkeypatch.setattr("mvmsr.inference.weights.BUILTIN_DIR", weights.parent)
    result = _run("models", "list")
    assert result.exit_code == 0, result.output
    for text in ("tiny", "1,549,462", "spandrel"):
        assert text in result.output
    assert _run("models", "info", "absent").exit_code == 1


def test_models_info_tells_that_weights_are_not_finite(tmp_path: Path) -> None:
    args = {"num_feat": 4, "num_conv": 1}
    state = Compact(**args).state_dict()
    first = next(iter(state))
    state[first].view(-1)[:2] = torch.tensor([torch.nan, torch.inf])
    result = _run("models", "info", save_weights(tmp_path / "w.safetensors", state, "Compact", args, 4))
    assert result.exit_code == 1
    assert f"2 of its values are NaN or infinite, the first in {first}" in " ".join(result.output.split())


def test_an_export_without_a_name_goes_to_this_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run("export", weights, "--to", "pth")
    assert result.exit_code == 0, result.output
    before = (tmp_path / "tiny.pth").read_bytes()
    again = _run("export", weights, "--to", "pth")
    assert again.exit_code == 1
    assert "tiny.pth exists and is left alone" in again.output
    assert (tmp_path / "tiny.pth").read_bytes() == before


def test_an_export_needs_the_name_of_a_file(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("x", encoding="utf-8")
    result = _run("export", weights, "--to", "pth", "-o", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path} is a folder; name a file, such as {tmp_path / 'tiny.pth'}" in " ".join(result.output.split())
    result = _run("export", weights, "--to", "pth", "-o", tmp_path / "notes" / "a.pth")
    assert result.exit_code == 1
    assert "notes is a file; name another folder" in " ".join(result.output.split())


def test_export_and_back(weights: Path, tmp_path: Path) -> None:
    result = _run("export", weights, "--to", "pth", "-o", tmp_path / "a.pth")
    assert result.exit_code == 0, result.output
    assert "largest difference from the source 0" in result.output
    again = _run("export", weights, "--to", "pth", "-o", tmp_path / "a.pth")
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    plain = {"params": torch.load(tmp_path / "a.pth", weights_only=True)["params_ema"]}
    torch.save(plain, tmp_path / "plain.pth")
    target = ("--to", "safetensors", "-o", tmp_path / "b.safetensors")
    assert "does not say which network" in _run("export", tmp_path / "plain.pth", *target).output
    named = '{"type": "SRResNet", "num_feat": 8, "num_block": 2}'
    assert _run("export", tmp_path / "plain.pth", "--arch", named, *target).exit_code == 0
    picture = _noise(6, 6, 3)
    outputs = [Upscaler(path, device="cpu").upscale_array(picture) for path in (weights, tmp_path / "b.safetensors")]
    assert np.array_equal(*outputs)


def test_the_commands_load_no_torch_until_they_run() -> None:
    program = "import sys, mvmsr.cli.upscale, mvmsr.cli.models, mvmsr.cli.export; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("suffix", ["/../../away", "a\\b"])
def test_a_suffix_names_no_folders(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    arguments = ["upscale", str(tmp_path / "p.png"), "-o", str(tmp_path / "out"), "--suffix", suffix]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["p.png"]
