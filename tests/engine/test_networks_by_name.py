"""Networks that are not ours, named in `network_g`, are trained, and what was trained is used as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from tiny_runs import tiny_options
from torch import Tensor, nn

from mvmsr.cli.upscale import Job, run
from mvmsr.config import OptionsError, TrainOptions
from mvmsr.data.image_io import write_rgb
from mvmsr.engine.checkpoint import list_checkpoints
from mvmsr.engine.loop import train
from mvmsr.engine.validate import Validation
from mvmsr.engine.verify_resume import verify_resume
from mvmsr.inference.export import export
from mvmsr.inference.restorer import Restorer
from mvmsr.inference.upscaler import Upscaler
from mvmsr.inference.weights import find_weights, load_generator, load_state, save_weights
from mvmsr.registry import ARCHS, RegistryError

RGB = {"num_in_ch": 3, "num_out_ch": 3}
SMALL: dict[str, dict[str, Any]] = {
    "EDSR": {**RGB, "num_feat": 4, "num_block": 1},
    "RCAN": {**RGB, "num_feat": 4, "num_group": 1, "num_block": 1, "squeeze_factor": 2},
    "SwinIR": {
        "img_size": 8,
        "window_size": 4,
        "embed_dim": 4,
        "depths": (2,),
        "num_heads": (2,),
        "mlp_ratio": 1,
        "upsampler": "pixelshuffledirect",
    },
    "RRDBNet": {**RGB, "num_feat": 8, "num_block": 1, "scale": 2},
    "Own": {},
    "Picky": {},
}


class Own(nn.Module):
    """A user's network, which does not say its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(lq), 4)


class Picky(Own):
    """One that takes even sizes only, and does not say so."""

    def forward(self, lq: Tensor) -> Tensor:
        assert lq.shape[-2] % 2 == 0
        return super().forward(lq)


@pytest.fixture(autouse=True)
def _own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHS.names()
    monkeypatch.setitem(ARCHS._entries, "Own", Own)
    monkeypatch.setitem(ARCHS._entries, "Picky", Picky)


def _network_g(name: str) -> dict[str, Any]:
    try:
        ARCHS.get(name)
    except RegistryError:
        pytest.skip("BasicSR is not installed")
    return {"network_g": {"type": name, **SMALL[name]}, "train.total_iter": 1}


@pytest.mark.parametrize("name", ["EDSR", "RCAN", "Own"])
def test_networks_that_do_not_say_their_scale_are_used_after_training(
    name: str, pictures: Path, tmp_path: Path, console: Console
) -> None:
    run = train(tiny_options(tmp_path, pictures, changes=_network_g(name)), console=console)
    path = find_weights(run.root)
    module, info = load_generator(path)
    assert (module.scale, info.scale) == (4, 4)
    assert Upscaler(path, device="cpu").upscale_tensor(torch.rand(3, 7, 5)).shape == (3, 28, 20)
    assert export(module, info, "pth", tmp_path / "exported.pth") == 0
    assert load_generator(tmp_path / "exported.pth")[0].scale == 4


@pytest.mark.parametrize("given", [{"upscale": 2}, {}])
def test_plain_states_of_such_networks_take_the_scale_of_their_arguments(given: dict[str, int], tmp_path: Path) -> None:
    _network_g("EDSR")
    args = {**SMALL["EDSR"], **given}
    torch.save(ARCHS.get("EDSR")(**args).state_dict(), tmp_path / "edsr.pth")
    assert load_generator(tmp_path / "edsr.pth", {"type": "EDSR", **args})[0].scale == given.get("upscale", 4)


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A folder of two pictures, whose quarters are 15 and 16 pixels high."""
    for height in (60, 64):
        noise = np.random.default_rng(height).integers(0, 255, (height, 64, 3)).astype(np.uint8)
        write_rgb(tmp_path / "uneven" / f"{height}.png", noise)
    return tmp_path / "uneven"


def _validated(uneven: Path) -> dict[str, Any]:
    return {
        "datasets.val": {"name": "uneven", "dataroot_gt": str(uneven)},
        "val": {"val_freq": 1, "metrics": ["psnr"], "samples": 0},
        "logger.save_checkpoint_freq": 1,
    }


def test_a_picture_that_a_network_asserts_against_costs_a_mean_and_no_run(
    uneven: Path, pictures: Path, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {**_network_g("Picky"), **_validated(uneven)}
    run = train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    assert len(list_checkpoints(run.checkpoints)) == 1
    assert "the network fails on 16 x 15 pixels: AssertionError" in caplog.text
    assert "No mean of uneven: it failed on 60" in caplog.text


def test_what_was_trained_is_saved_before_a_validation_ends_the_run(
    uneven: Path, pictures: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr(Validation, "score", fail)
    with pytest.raises(KeyError, match="no such thing"):
        train(tiny_options(tmp_path, pictures, changes={**_network_g("Own"), **_validated(uneven)}), console=console)
    assert len(list_checkpoints(tmp_path / "tiny" / "checkpoints")) == 1


@pytest.fixture
def picky(tmp_path: Path) -> Path:
    return save_weights(tmp_path / "picky.safetensors", Picky().state_dict(), "Picky", {}, 4)


@pytest.mark.parametrize(("tile", "done"), [(0, 1), (32, 0)])
def test_such_a_picture_does_not_stop_a_folder(
    tile: int, done: int, picky: Path, uneven: Path, tmp_path: Path, console: Console
) -> None:
    write_rgb(uneven / "60.png", np.zeros((61, 64, 3), np.uint8))
    failures: list[str] = []
    jobs = [Job(path, tmp_path / "out" / path.name) for path in sorted(uneven.iterdir())]
    assert run(jobs, Upscaler(picky, tile, "cpu"), console, failures) == done
    assert len(failures) == 2 - done
    assert all("fails on" in text and "AssertionError" in text for text in failures)


def test_such_a_network_is_exported_as_far_as_it_goes(picky: Path, tmp_path: Path) -> None:
    module, info = load_generator(picky)
    assert export(module, info, "pth", tmp_path / "picky.pth") == 0


@pytest.mark.parametrize(("name", "scale", "multiple"), [("SwinIR", 4, 4), ("RRDBNet", 2, 2)])
def test_networks_that_take_sides_of_a_multiple_take_any_picture(
    name: str, scale: int, multiple: int, pictures: Path, uneven: Path, tmp_path: Path, console: Console
) -> None:
    write_rgb(uneven / "60.png", np.full((60 // 4 * scale, 44, 3), 99, np.uint8))
    changes = {**_network_g(name), **_validated(uneven), "scale": scale}
    run_dir = train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    assert "val/uneven/psnr" in (run_dir.root / "stats.jsonl").read_text()
    module, info = load_generator(find_weights(run_dir.root))
    lq = torch.rand(3, 23, 41)
    whole = Upscaler(Restorer(module, scale, "cpu", "32"), 0).upscale_tensor(lq)
    assert whole.shape == (3, 23 * scale, 41 * scale)
    even = Upscaler(Restorer(module, scale, "cpu", "32"), 0).upscale_tensor(lq[:, : 4 * multiple, : 4 * multiple])
    with torch.no_grad():
        expected = module(lq[None, :, : 4 * multiple, : 4 * multiple])[0].clamp(0, 1)
    assert torch.allclose(even, expected, atol=1e-5)
    tiles = Upscaler(Restorer(module, scale, "cpu", "32"), 16).upscale_tensor(lq)
    assert (tiles - whole).abs().max() < 1 / 255
    assert export(module, info, "safetensors", tmp_path / "exported.safetensors") == 0
    assert set(load_generator(tmp_path / "exported.safetensors")[0].state_dict()) == set(module.state_dict())


@pytest.mark.parametrize("to", ["pth", "safetensors"])
def test_a_network_trained_on_from_another_tools_file_is_exported_without_that_file(
    to: str, pictures: Path, tmp_path: Path, console: Console
) -> None:
    pytest.importorskip("spandrel")
    _network_g("RRDBNet")
    state = ARCHS.get("RRDBNet")(**{**SMALL["RRDBNet"], "scale": 4}).state_dict()
    torch.save({"params_ema": state}, tmp_path / "esrgan.pth")
    changes = {"network_g": {"type": "spandrel", "path": str(tmp_path / "esrgan.pth")}, "train.total_iter": 1}
    run_dir = train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    (tmp_path / "esrgan.pth").unlink()
    module, info = load_generator(find_weights(run_dir.root))
    path = tmp_path / f"exported.{to}"
    assert export(module, info, to, path) == 0
    again, found = load_generator(path)
    assert (found.arch, found.scale, found.args, found.extra) == ("ESRGAN", 4, {}, info.extra)
    lq = torch.rand(1, 3, 5, 7)
    with torch.no_grad():
        assert torch.equal(again(lq), module(lq))


def test_such_a_training_goes_on_without_that_file(pictures: Path, tmp_path: Path, console: Console) -> None:
    pytest.importorskip("spandrel")
    _network_g("RRDBNet")
    started_from = tmp_path / "esrgan.pth"
    torch.save(ARCHS.get("RRDBNet")(**{**SMALL["RRDBNet"], "scale": 4}).state_dict(), started_from)
    changes = {"network_g": {"type": "spandrel", "path": str(started_from)}}

    def options(name: str, total: int) -> TrainOptions:
        return tiny_options(tmp_path, pictures, changes={**changes, "name": name, "train.total_iter": total})

    for name in ("with", "without"):
        train(options(name, 1), console=console)
    expected = load_state(find_weights(train(options("with", 2), auto_resume=True, console=console).root))
    started_from.unlink()
    run_dir = train(options("without", 2), auto_resume=True, console=console)
    state = load_state(find_weights(run_dir.root))
    assert all(torch.equal(value, state[entry]) for entry, value in expected.items())
    assert yaml.safe_load((run_dir.root / "options.yml").read_text())["network_g"]["path"] == str(started_from)
    assert verify_resume(options("without", 2), 1).is_exact

    with pytest.raises(OptionsError, match=r"no weights file at .*esrgan\.pth"):
        train(options("new", 1), console=console)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_padding_is_a_part_of_what_is_exported(tmp_path: Path) -> None:
    _network_g("RRDBNet")
    args = SMALL["RRDBNet"]
    state = ARCHS.get("RRDBNet")(**args).state_dict()
    module, info = load_generator(save_weights(tmp_path / "x2.safetensors", state, "RRDBNet", args, 2))
    assert export(module, info, "torchscript", tmp_path / "x2.pt") < 1e-5
    assert torch.jit.load(tmp_path / "x2.pt")(torch.rand(1, 3, 5, 7)).shape == (1, 3, 10, 14)
