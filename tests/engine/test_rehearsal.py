"""What a network or a loss refuses at the training's sizes is an error of the options, before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import tiny_options
from torch import Tensor, nn

from mvmsr.config import OptionsError
from mvmsr.engine.loop import train
from mvmsr.registry import ARCHS


class Fussy(nn.Module):
    """A network of a user's own, with one fault of several."""

    def __init__(self, fault: str = "none", num_in_ch: int = 3, scale: int = 4) -> None:
        super().__init__()
        if fault == "constructor":
            raise TypeError("'<' not supported between these")
        self.fault, self.upscale_by, self.input_size = fault, scale, 128
        self.conv = nn.Conv2d(num_in_ch, 3 * scale**2, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        if self.fault == "size":
            raise AssertionError("Input size must be identical to input_size")
        if self.fault == "type":
            raise TypeError("an int is needed")
        return nn.functional.pixel_shuffle(self.conv(pictures), self.upscale_by)


@pytest.fixture(autouse=True)
def _own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    ARCHS.names()
    monkeypatch.setitem(ARCHS._entries, "Fussy", Fussy)


@pytest.mark.parametrize(
    ("key", "args", "message"),
    [
        ("network_g", {"fault": "constructor"}, r"Fussy cannot be built: TypeError: '<' not supported"),
        ("network_g", {"fault": "type"}, r"Fussy fails on patches of 16 pixels: TypeError: an int is needed"),
        (
            "network_g",
            {"num_in_ch": 1},
            r"Fussy fails on patches of 16 pixels: RuntimeError: .*\(num_in_ch",
        ),
        ("network_g", {"scale": 2}, r"Fussy makes \(2, 3, 8, 8\) of \(2, 3, 4, 4\), expected \(2, 3, 16, 16\)"),
        (
            "network_d",
            {"fault": "size"},
            r"Fussy fails .*: Input size .*Set datasets.train.gt_size to 128",
        ),
        ("network_m", {"num_in_ch": 1}, r"Fussy fails .*num_in_ch"),
    ],
)
def test_the_network_at_fault_is_named(
    key: str, args: dict[str, Any], message: str, pictures: Path, tmp_path: Path, console: Console
) -> None:
    options = tiny_options(tmp_path, pictures, "GDM", {key: {"type": "Fussy", **args}})
    with pytest.raises(OptionsError, match=rf"options\.yml:\d+: {key}: {message}"):
        train(options, console=console)
    assert not (tmp_path / "tiny").exists()


def test_a_batch_of_one_names_the_key_that_makes_it(pictures: Path, tmp_path: Path, console: Console) -> None:
    changes = {"datasets.train.batch_size_per_gpu": 1}
    with pytest.raises(OptionsError, match=r"\d+: datasets\.train\.batch_size_per_gpu: .*set it to 2 or more"):
        train(tiny_options(tmp_path, pictures, "GM", changes), console=console)
    assert not (tmp_path / "tiny").exists()


def test_the_term_at_fault_is_named(
    pictures: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.mean() * self.weight[0]

    monkeypatch.setitem(ARCHS._entries, "Flat", Flat)
    options = tiny_options(tmp_path, pictures, "GM", {"network_m": {"type": "Flat"}})
    with pytest.raises(OptionsError, match=r"options\.yml:\d+: train\.\w+_opt: the objective of the \w+ fails on"):
        train(options, console=console)
