"""The losses that share BasicSR's names take its keys and give its values."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mvmsr import basicsr_shim
from mvmsr.losses.adversarial import GANLoss
from mvmsr.losses.perceptual import PerceptualLoss
from mvmsr.registry import LOSSES

SHARED = ["CharbonnierLoss", "GANLoss", "L1Loss", "MSELoss", "PerceptualLoss", "WeightedTVLoss"]


def theirs(name: str) -> Any:
    found = basicsr_shim.find("LOSS_REGISTRY", name)
    if found is None:
        pytest.skip("BasicSR is not installed")
    return found


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator) for _ in range(2))
    return first, second


@pytest.mark.parametrize("name", SHARED)
def test_takes_its_keys_with_its_defaults(name: str) -> None:
    ours = inspect.signature(LOSSES.get(name)).parameters
    for key, parameter in inspect.signature(theirs(name)).parameters.items():
        assert key in ours, key
        if parameter.default is not parameter.empty:
            assert ours[key].default == parameter.default, key


@pytest.mark.parametrize("name", ["CharbonnierLoss", "L1Loss", "MSELoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_pixel(name: str, reduction: str) -> None:
    sr, gt = pair(2, 3, 5, 5)
    torch.testing.assert_close(LOSSES.get(name)(reduction=reduction)(sr, gt), theirs(name)(reduction=reduction)(sr, gt))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_total_variation(reduction: str) -> None:
    sr, _ = pair(2, 3, 5, 7)
    name = "WeightedTVLoss"
    torch.testing.assert_close(LOSSES.get(name)(reduction=reduction)(sr), theirs(name)(reduction=reduction)(sr))


@pytest.mark.parametrize("gan_type", ["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"])
def test_gan(gan_type: str) -> None:
    sr, gt = pair(4, 1)
    ours, other = GANLoss(gan_type), theirs("GANLoss")(gan_type)
    torch.testing.assert_close(ours(sr), other(sr, True, is_disc=False))
    both = other(gt, True, is_disc=True) + other(sr, False, is_disc=True)
    torch.testing.assert_close(ours.discriminator_loss(gt, sr), both)


def test_relativistic_gan_as_in_its_esrgan_model() -> None:
    sr, gt = pair(4, 1)
    ours, other = GANLoss("relativistic", relativistic_reduction="mean"), theirs("GANLoss")("vanilla")
    generator = (other(gt - sr.mean(), False) + other(sr - gt.mean(), True)) / 2
    discriminator = (other(gt - sr.mean(), True) + other(sr - gt.mean(), False)) * 0.5
    torch.testing.assert_close(ours(sr, gt), generator)
    torch.testing.assert_close(ours.discriminator_loss(gt, sr), discriminator)


class Channels(nn.Module):
    """Stands in for the VGG of both."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"low": image, "high": image.cumsum(dim=2)}


@pytest.mark.parametrize("criterion", ["l1", "fro"])
def test_perceptual(criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = theirs("PerceptualLoss")
    monkeypatch.setitem(cls.__init__.__globals__, "VGGFeatureExtractor", lambda **_: Channels())
    options = {
        "layer_weights": {"low": 1.0, "high": 0.3},
        "perceptual_weight": 0.7,
        "style_weight": 2.0,
        "criterion": criterion,
    }
    sr, gt = pair(2, 3, 5, 5)
    torch.testing.assert_close(PerceptualLoss(Channels(), **options)(sr, gt), sum(cls(**options)(sr, gt)))
