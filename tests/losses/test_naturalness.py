"""The naturalness loss: values by hand, its constant, what it freezes, what it trains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mvmsr.archs import NMD
from mvmsr.losses.naturalness import NaturalnessLoss, discrimination_loss, naturalness_loss


class Brightness(nn.Module):
    """Logits (N, 1): ten times the mean, moved by a parameter that must stay as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(-5.0))
        self.drop = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        return self.drop(10 * image.mean((2, 3)).mean(1, keepdim=True) + self.offset)


def test_value_by_hand() -> None:
    logits = torch.tensor([[0.0], [math.log(3.0)]])  # sigmoids 1/2 and 3/4
    assert naturalness_loss(logits).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, rel=1e-6)


def test_a_sure_discriminator_costs_the_constants_logarithm_and_not_infinity() -> None:
    logits = torch.tensor([[-200.0]], requires_grad=True)
    loss = naturalness_loss(logits)
    assert loss.item() == pytest.approx(-math.log(1e-10), rel=1e-6)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_it_teaches_the_picture_and_not_the_discriminator() -> None:
    term = NaturalnessLoss(Brightness(), "nmd.safetensors").train()
    grey = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    first, second = term(grey), term(grey)
    assert first.item() == second.item() == pytest.approx(math.log(2))  # nothing dropped out: evaluation mode
    first.backward()
    assert (grey.grad < 0).all()  # brighter is more natural to this one
    assert term.extractor.offset.grad is None
    assert not any(p.requires_grad for p in term.parameters())


def test_equals_the_formula_with_the_real_network() -> None:
    torch.manual_seed(0)
    nmd = NMD(num_feat=2)
    image = torch.rand(3, 3, 32, 32)
    chances = [torch.sigmoid(nmd(one[None])).item() for one in image]
    expected = -sum(math.log(chance + 1e-10) for chance in chances) / 3
    assert NaturalnessLoss(nmd, "nmd.safetensors")(image).item() == pytest.approx(expected, rel=1e-5)


def test_asks_for_the_pictures_alone() -> None:
    term = NaturalnessLoss(Brightness(), "nmd.safetensors", loss_weight=1e-3)
    assert list(term.objectives()) == ["generator"]
    assert term.weight_for("generator") == 1e-3
    assert not term.needs_pairs
    assert NaturalnessLoss.extractor_spec("a.safetensors") == {"type": "NMD", "weights": "a.safetensors"}


def test_refuses_no_logits() -> None:
    with pytest.raises(ValueError, match=r"expected logits of shape \(N, ...\) with N > 0, got \(0, 1\)"):
        naturalness_loss(torch.zeros(0, 1))


def test_what_the_discriminator_learns_by_equals_a_loop() -> None:
    logits = torch.randn(6, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    natural = [False, True, True, False, True, True]
    loop = [
        math.log1p(math.exp(-x if is_one else x)) for x, is_one in zip(logits.flatten().tolist(), natural, strict=True)
    ]
    loss = discrimination_loss(logits, torch.tensor(natural)[:, None])
    assert loss.item() == pytest.approx(sum(loop) / 6, rel=1e-12)
    with pytest.raises(ValueError, match=r"expected is_natural of shape \(6, 1\), got \(6,\)"):
        discrimination_loss(logits, torch.tensor(natural))
