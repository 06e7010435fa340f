"""Networks that are not ours, named in `network_g`, are trained, and what was trained is used as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import tiny_options
from torch import Tensor, nn

from mvmsr.engine.loop import train
from mvmsr.inference.export import export
from mvmsr.inference.upscaler import Upscaler
from mvmsr.inference.weights import find_weights, load_generator
from mvmsr.registry import ARCHS, RegistryError

RGB = {"num_in_ch": 3, "num_out_ch": 3}
SMALL: dict[str, dict[str, Any]] = {
    "EDSR": {**RGB, "num_feat": 4, "num_block": 1},
    "RCAN": {**RGB, "num_feat": 4, "num_group": 1, "num_block": 1, "squeeze_factor": 2},
    "Own": {},
}


class Own(nn.Module):
    """A user's network, which does not say its scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(lq), 4)


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHS.names()
    monkeypatch.setitem(ARCHS._entries, "Own", Own)


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
