"""Pixel losses: values by hand and by loops, scale laws, gradients, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mvmsr.losses.pixel import CharbonnierLoss, L1Loss, MSELoss, charbonnier, l1, mse

SR = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
GT = torch.tensor([[[[0.5, 0.0], [0.5, 1.0]]]])
FUNCTIONS = [l1, mse, charbonnier]


def pictures(seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, gt = (torch.rand(batch, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    return sr, gt


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (L1Loss(), (0.5 + 1 + 0 + 0.5) / 4),
        (L1Loss(reduction="sum"), 2.0),
        (MSELoss(), (0.25 + 1 + 0 + 0.25) / 4),
        (MSELoss(reduction="sum"), 1.5),
        (CharbonnierLoss(eps=0.75), (1 + math.sqrt(1.75) + math.sqrt(0.75) + 1) / 4),
        (CharbonnierLoss(reduction="sum", eps=0.75), 2 + math.sqrt(1.75) + math.sqrt(0.75)),
    ],
)
def test_value_by_hand(term: torch.nn.Module, expected: float) -> None:
    assert term(SR, GT).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "element"),
    [(l1, abs), (mse, lambda d: d * d), (charbonnier, lambda d: math.sqrt(d * d + 1e-12))],
)
def test_equals_a_loop_over_pixels(function, element) -> None:
    sr, gt = pictures()
    values = [element(a - b) for a, b in zip(sr.flatten().tolist(), gt.flatten().tolist(), strict=True)]
    assert function(sr, gt).item() == pytest.approx(sum(values) / len(values), rel=1e-12)
    assert function(sr, gt, "sum").item() == pytest.approx(sum(values), rel=1e-12)


def test_weight_is_left_to_the_trainer() -> None:
    assert L1Loss(loss_weight=7.0)(SR, GT) == L1Loss()(SR, GT)
    assert L1Loss(loss_weight=7.0).weight_for("generator") == 7.0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_mean_ignores_the_batch_size_and_sum_does_not(function) -> None:
    sr, gt = pictures()
    twice = [torch.cat([x, x]) for x in (sr, gt)]
    assert function(*twice).item() == pytest.approx(function(sr, gt).item(), rel=1e-12)
    assert function(*twice, "sum").item() == pytest.approx(2 * function(sr, gt, "sum").item(), rel=1e-12)


@pytest.mark.parametrize(("function", "power"), [(l1, 1), (mse, 2), (charbonnier, 1)])
def test_scale_law_and_translation(function, power: int) -> None:
    sr, gt = pictures()
    value = function(sr, gt).item()
    assert function(3 * sr, 3 * gt).item() == pytest.approx(3**power * value, rel=1e-9)
    assert function(sr + 0.3, gt + 0.3).item() == pytest.approx(value, rel=1e-9)
    assert function(gt, sr).item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradient(function) -> None:
    sr, gt = (x.requires_grad_() for x in pictures(batch=1))
    assert torch.autograd.gradcheck(function, (sr, gt))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradient_is_zero_where_pictures_agree(function) -> None:
    sr = SR.clone().requires_grad_()
    function(sr, SR).backward()
    assert torch.equal(sr.grad, torch.zeros_like(SR))


@pytest.mark.parametrize("term", [L1Loss(), MSELoss(), CharbonnierLoss()])
def test_a_step_against_the_gradient_lowers_the_loss(term: torch.nn.Module) -> None:
    sr, gt = pictures()
    sr.requires_grad_()
    loss = term(sr, gt)
    loss.backward()
    assert term(sr - 0.01 * sr.grad, gt) < loss


@pytest.mark.parametrize("term", [L1Loss(), MSELoss(), CharbonnierLoss()])
@pytest.mark.parametrize(
    ("sr", "gt"),
    [
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 2, 2)),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)),
        (torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4)),
        (torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)),
        (torch.zeros(0, 3, 4, 4), torch.zeros(0, 3, 4, 4)),
    ],
)
def test_refuses_shapes(term: torch.nn.Module, sr: Tensor, gt: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected sr and gt of the same shape \(N, C, H, W\), got \("):
        term(sr, gt)


@pytest.mark.parametrize("cls", [L1Loss, MSELoss, CharbonnierLoss])
@pytest.mark.parametrize(
    ("reduction", "message"),
    [
        ("none", "expected one of mean, sum; got 'none', which gives no scalar"),
        ("maen", "expected one of mean, sum; got 'maen'. Did you mean 'mean'?"),
        (None, "expected one of mean, sum; got None"),
    ],
)
def test_refuses_reductions(cls: type, reduction: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        cls(reduction=reduction)


@pytest.mark.parametrize("eps", [0.0, -1e-6])
def test_charbonnier_refuses_eps(eps: float) -> None:
    with pytest.raises(ValueError, match="eps: expected a positive number"):
        CharbonnierLoss(eps=eps)
