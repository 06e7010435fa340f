"""Means of two networks' weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mvmsr.archs import SRResNet
from mvmsr.cli import app
from mvmsr.inference import WeightsError, load_generator, save_weights
from mvmsr.inference.blending import blend, parse_share


@pytest.fixture
def other(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    network = SRResNet(num_feat=8, num_block=2)
    return save_weights(
        tmp_path / "other.safetensors", network.state_dict(), "SRResNet", {"num_feat": 8, "num_block": 2}, 4
    )


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_weight_is_the_mean(weights: Path, other: Path, share: float) -> None:
    first, second = load_generator(weights), load_generator(other)
    before = {name: value.clone() for name, value in first[0].state_dict().items()}
    scored = replace(first[1], extra={"name": "tiny", "psnr": "26.04"})
    module, info = blend(first[0], scored, *second, share)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(first[0].state_dict()[name], before[name])  # left as it was
        if value.is_floating_point():
            torch.testing.assert_close(value, (1 - share) * before[name] + share * second[0].state_dict()[name])
        else:
            assert torch.equal(value, before[name])
    assert info.extra == {"name": f"{1 - share:g} tiny + {share:g} other", "blended": "true"}


@pytest.mark.parametrize(
    "args",
    [
        {"num_feat": 8, "num_block": 3},
        {"num_feat": 4, "num_block": 2},
        {"num_feat": 8, "num_block": 2, "global_skip": "bicubic"},  # the same tensors
    ],
)
def test_different_networks_are_refused(weights: Path, tmp_path: Path, args: dict[str, int]) -> None:
    path = save_weights(tmp_path / "else.safetensors", SRResNet(**args).state_dict(), "SRResNet", args, 4)
    with pytest.raises(WeightsError, match=r"else.safetensors cannot be blended .* are different networks"):
        blend(*load_generator(weights), *load_generator(path), 0.5)


@pytest.mark.parametrize("text", ["psnr", "=0.5", "psnr=half", "psnr=1.5", "psnr=-1", "psnr=nan"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(WeightsError, match=f"--blend {text}: expected MODEL=SHARE"):
        parse_share(text)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shares(share: float) -> None:
    assert parse_share(f"runs/psnr={share}") == ("runs/psnr", share)


def test_from_the_command_line(weights: Path, other: Path, tmp_path: Path) -> None:
    target = tmp_path / "between.safetensors"
    command = ["export", str(weights), "--blend", f"{other}=0.5", "--to", "safetensors", "-o", str(target)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "300"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    halves = [load_generator(path)[0].state_dict()["conv_last.bias"] for path in (weights, other, target)]
    torch.testing.assert_close(halves[2], (halves[0] + halves[1]) / 2)

    refused = CliRunner().invoke(app, [*command, "--overwrite", "--blend", "fast=0.5"], env={"COLUMNS": "300"})
    assert refused.exit_code == 1
    assert "are different networks" in refused.output
