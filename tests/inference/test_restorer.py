from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvmsr.archs import SRResNet
from mvmsr.inference import Restorer, WeightsError, load_restorer, self_ensemble


class _Overflowing(nn.Module):
    """Fine in float32; beyond the range of bfloat16 or float16 it stands for a network that overflows."""

    scale = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.dirac_(self.conv.weight)

    def forward(self, lq: Tensor) -> Tensor:
        features = self.conv(lq)
        return features if features.dtype == torch.float32 else features * torch.inf


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (16, 16)])
def test_output_is_the_networks_clamped(network: SRResNet, size: tuple[int, int]) -> None:
    lq = torch.rand(2, 3, *size)
    with torch.no_grad():
        expected = network(lq).clamp(0, 1)
    sr = Restorer(network, 4, "cpu", "32")(lq)
    assert sr.dtype == torch.float32
    assert not sr.requires_grad
    assert torch.allclose(sr, expected, atol=1e-6)


def test_batch_normalisation_uses_its_statistics(network: SRResNet) -> None:
    lq = torch.rand(2, 3, 8, 8)
    restorer = Restorer(network.train(), 4, "cpu", "32")
    assert torch.allclose(restorer(lq)[:1], restorer(lq[:1]), atol=1e-6)


def test_channels_last_gives_the_same(network: SRResNet) -> None:
    lq = torch.rand(1, 3, 9, 11)
    expected = Restorer(network, 4, "cpu", "32", channels_last=False)(lq)
    assert torch.allclose(Restorer(network, 4, "cpu", "32", channels_last=True)(lq), expected, atol=1e-5)


def test_values_beyond_the_range_are_clamped() -> None:
    lq = torch.tensor([-0.5, 0.25, 1.5]).view(1, 3, 1, 1)
    assert Restorer(nn.Identity(), 1, "cpu", "32")(lq).flatten().tolist() == [0, 0.25, 1]


@pytest.mark.parametrize(
    ("lq", "message"),
    [
        (torch.rand(3, 8, 8), r"\(N, 3, h, w\).*got \(3, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), r"got \(1, 1, 8, 8\)"),
        (torch.rand(1, 3, 0, 8), r"got \(1, 3, 0, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "torch.uint8.* Divide uint8 by 255"),
        (torch.full((1, 3, 8, 8), 255.0), "got 255 to 255; divide"),
    ],
)
def test_inputs_that_cannot_be_meant(network: SRResNet, lq: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Restorer(network, 4, "cpu", "32")(lq)


def test_overflow_in_half_precision_is_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    restorer = Restorer(_Overflowing(), 1, "cpu", "bf16-mixed")
    lq = torch.rand(1, 3, 8, 8)
    with caplog.at_level(logging.WARNING):
        sr = restorer(lq)
    assert torch.equal(sr, lq)
    assert "overflows in bf16-mixed" in caplog.text


def test_a_network_that_is_never_finite_is_refused(network: SRResNet, caplog: pytest.LogCaptureFixture) -> None:
    nn.init.constant_(network.conv_last.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="not finite in float32"):
        Restorer(network, 4, "cpu", "32")(torch.rand(1, 3, 8, 8))
    assert not caplog.text  # there was no other precision to blame


def test_a_wrong_scale_is_told(network: SRResNet) -> None:
    with pytest.raises(ValueError, match=r"expected \(1, 3, 16, 16\); is its scale 2"):
        Restorer(network, 2, "cpu", "32")(torch.rand(1, 3, 8, 8))


def test_precisions_that_a_network_cannot_do(network: SRResNet) -> None:
    network.precisions = ("32",)
    assert Restorer(network, 4, "cpu", "auto").precision == "32"
    with pytest.raises(ValueError, match="only in 32"):
        Restorer(network, 4, "cpu", "bf16-mixed")


def test_another_precision_shares_the_network(network: SRResNet) -> None:
    half = Restorer(network, 4, "cpu", "bf16-mixed")
    full = half.with_precision("32")
    assert (half.precision, full.precision) == ("bf16-mixed", "32")
    assert full.module is half.module


def test_loading_by_file_and_its_errors(network: SRResNet, weights: Path) -> None:
    restorer = load_restorer(weights, "cpu", "32")
    lq = torch.rand(1, 3, 6, 6)
    assert torch.allclose(restorer(lq), Restorer(network, 4, "cpu", "32")(lq), atol=1e-6)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in restorer.module.modules())
    assert restorer.info is not None
    assert restorer.info.extra["name"] == "tiny"
    with pytest.raises(WeightsError, match="neither a file"):
        load_restorer("absent", "cpu")


@torch.no_grad()
def test_ensemble_is_the_mean_over_eight_by_hand(network: SRResNet) -> None:
    lq = torch.rand(1, 3, 6, 9)
    outputs = []
    for transposed in (False, True):
        for dims in ((), (2,), (3,), (2, 3)):
            turned = (lq.mT if transposed else lq).flip(dims)
            sr = network(turned).flip(dims)
            outputs.append(sr.mT if transposed else sr)
    assert torch.allclose(self_ensemble(network, lq), torch.stack(outputs).mean(0), atol=1e-6)


@torch.no_grad()
def test_ensemble_does_not_depend_on_how_the_picture_is_held(network: SRResNet) -> None:
    lq = torch.rand(1, 3, 6, 9)
    turned = self_ensemble(network, lq.rot90(1, (-2, -1))).rot90(-1, (-2, -1))
    assert torch.allclose(turned, self_ensemble(network, lq), atol=1e-6)
