from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mvmsr.benchmark import methods
from mvmsr.benchmark.evaluate import quantise, to_tensor
from mvmsr.benchmark.methods import Bicubic, MethodError, SavedPictures, parse_method
from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair
from mvmsr.inference.weights import BUILTIN_DIR

PAIR = ImagePair("img_001", Path("img_001_SRF_4_HR.png"), None)


def touch(path: Path, age_seconds: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode())
    os.utime(path, (1_000_000 - age_seconds,) * 2)
    return path


def test_bicubic_is_imresize_of_the_uint8_picture() -> None:
    lq = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    method = parse_method("bicubic", 3)
    assert (method.name, method.source, method.open()) == ("bicubic", None, Bicubic(3))
    sr = method.open()(to_tensor(lq))
    assert sr.shape == (1, 3, 18, 24)
    assert np.array_equal(quantise(sr), imresize(lq, scale=3))


def test_label() -> None:
    assert parse_method("base=bicubic", 4).name == "base"


def test_weights_file_and_its_checksum(tmp_path: Path) -> None:
    method = parse_method(str(touch(tmp_path / "net.pth")), 4)
    assert (method.name, method.source) == ("net", tmp_path / "net.pth")
    assert method.as_dict()["sha256"] == hashlib.sha256(b"net.pth").hexdigest()


def test_run_directory_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "experiments" / "mine"
    touch(run / "weights" / "mine_g_00002000.safetensors", age_seconds=10)
    newest = touch(run / "weights" / "mine_g_00001000.safetensors")
    assert parse_method(str(run), 4).source == newest
    monkeypatch.chdir(tmp_path)
    method = parse_method("mine", 4)
    assert method.name == "mine"
    assert method.source.resolve() == newest


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bicubik", "unknown method 'bicubik'; a method is `bicubic`"),
        ("images:nowhere", "nowhere is not a folder"),
        (".", "no weights/"),
    ],
)
def test_refusals(spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MethodError, match=message):
        parse_method(spec, 4)


@pytest.mark.parametrize(
    "filename", ["img_001.png", "img_001_SRF_4_HR.png", "img_001_SwinIR.png", "img_001x4.png", "img_001-x4_out.jpg"]
)
def test_saved_pictures_are_found(filename: str, tmp_path: Path) -> None:
    blank = np.zeros((4, 4, 3), np.uint8)
    write_rgb(tmp_path / filename, blank)
    write_rgb(tmp_path / "img_0010.png", blank)
    assert SavedPictures(tmp_path).find("Set5", PAIR) == tmp_path / filename


def test_a_built_in_name_is_the_built_in_model_whatever_runs_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "experiments" / "psnr" / "weights" / "psnr_g_00000010.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    built_in = parse_method("psnr", 4)
    assert (built_in.name, built_in.source) == ("psnr", BUILTIN_DIR / "psnr.safetensors")
    run = parse_method("experiments/psnr", 4)
    assert (run.name, run.source) == ("psnr", weights.relative_to(tmp_path))


def test_saved_pictures_by_set_and_ambiguous(tmp_path: Path) -> None:
    blank = np.zeros((4, 4, 3), np.uint8)
    write_rgb(tmp_path / "Set5" / "img_001.png", blank)
    write_rgb(tmp_path / "img_001_a.png", blank)
    write_rgb(tmp_path / "img_001_b.png", blank)
    saved = parse_method(f"images:{tmp_path}", 4).open()
    assert saved.find("Set5", PAIR) == tmp_path / "Set5" / "img_001.png"
    with pytest.raises(MethodError, match=r"2 files could be img_001: img_001_a.png, img_001_b.png"):
        saved.find("Set14", PAIR)
    with pytest.raises(MethodError, match=r"name it img_9.png"):
        saved.find("Set14", ImagePair("img_9", Path("img_9.png"), None))


def test_model_of_another_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = pytest.importorskip("mvmsr.inference.restorer")

    class Twice:
        scale = 2

    monkeypatch.setattr(restorer, "load_restorer", lambda path, device, precision: Twice())
    method = parse_method(str(touch(tmp_path / "net.pth")), 4)
    with pytest.raises(MethodError, match="magnifies x2, the benchmark is x4; set scale: 2"):
        method.open()


def test_our_own_weights_restore(tmp_path: Path) -> None:
    weights = pytest.importorskip("mvmsr.inference.weights")
    from mvmsr.archs import SRResNet

    arguments = {"num_feat": 4, "num_block": 1, "upscale": 4}
    torch.manual_seed(0)
    net = SRResNet(**arguments)
    weights.save_weights(tmp_path / "w.safetensors", net.state_dict(), "SRResNet", arguments, 4)
    restore = parse_method(str(tmp_path / "w.safetensors"), 4, device="cpu", precision="32").open()
    lq = torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        expected = net.eval()(lq).clamp(0, 1)
    assert torch.allclose(restore(lq).cpu(), expected, atol=1e-5)


def test_spellings_are_those_that_parse() -> None:
    assert all(word in methods.SPELLINGS for word in ("bicubic", "images:DIR", "LABEL="))
