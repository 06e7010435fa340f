"""GAN losses: values by hand and by loops, identities between the two sides, gradients, what they ask for, errors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mvmsr.losses.adversarial import LABELLED_TYPES, UNPAIRED_TYPES, GANLoss, relativistic_loss

TYPES = [*UNPAIRED_TYPES, "relativistic"]
GT = torch.tensor([[0.5], [2.0]])
SR = torch.tensor([[-0.25], [0.75]])


def logits(seed: int = 0, shape: tuple[int, ...] = (4, 1)) -> tuple[Tensor, Tensor]:
    """Double-precision sr and gt logits, sr's mostly lower."""
    generator = torch.Generator().manual_seed(seed)
    sr, gt = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return sr - 0.5, gt + 0.5


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


Sides = tuple[Callable[..., float], Callable[..., float]]

# The two sides of each type, f of sr's and r of gt's logits, as the sources write them.
FORMULAS: dict[str, Sides] = {
    "vanilla": (
        lambda f, r: mean(softplus(-x) for x in f),
        lambda f, r: mean(softplus(-x) for x in r) + mean(softplus(x) for x in f),
    ),
    "lsgan": (
        lambda f, r: mean((x - 1) ** 2 for x in f),
        lambda f, r: mean((x - 1) ** 2 for x in r) + mean(x**2 for x in f),
    ),
    "wgan": (lambda f, r: -mean(f), lambda f, r: mean(f) - mean(r)),
    "wgan_softplus": (
        lambda f, r: mean(softplus(-x) for x in f),
        lambda f, r: mean(softplus(-x) for x in r) + mean(softplus(x) for x in f),
    ),
    "hinge": (
        lambda f, r: -mean(f),
        lambda f, r: mean(max(0, 1 - x) for x in r) + mean(max(0, 1 + x) for x in f),
    ),
    "template": (
        lambda f, r: 1 - mean(map(sigmoid, f)),
        lambda f, r: 1 - mean(map(sigmoid, r)) + mean(map(sigmoid, f)),
    ),
    "relativistic": (
        lambda f, r: mean(softplus(-(x - mean(r))) for x in f) + mean(softplus(x - mean(f)) for x in r),
        lambda f, r: mean(softplus(-(x - mean(f))) for x in r) + mean(softplus(x - mean(r)) for x in f),
    ),
}


@pytest.mark.parametrize("gan_type", TYPES)
@pytest.mark.parametrize("shape", [(4, 1), (1, 1), (2, 1, 3, 2), (5,)])
def test_equals_loops(gan_type: str, shape: tuple[int, ...]) -> None:
    sr, gt = logits(shape=shape)
    f, r = sr.flatten().tolist(), gt.flatten().tolist()
    generator, discriminator = FORMULAS[gan_type]
    term = GANLoss(gan_type)
    assert term(sr, gt).item() == pytest.approx(generator(f, r), rel=1e-12)
    assert term.discriminator_loss(gt, sr).item() == pytest.approx(discriminator(f, r), rel=1e-12)


def test_values_by_hand() -> None:
    assert GANLoss("lsgan")(SR).item() == pytest.approx((1.5625 + 0.0625) / 2)
    assert GANLoss("lsgan").discriminator_loss(GT, SR).item() == pytest.approx((0.25 + 1) / 2 + (0.0625 + 0.5625) / 2)
    assert GANLoss("hinge")(SR).item() == -0.25
    assert GANLoss("hinge").discriminator_loss(GT, SR).item() == pytest.approx(0.5 / 2 + (0.75 + 1.75) / 2)
    assert GANLoss("wgan").discriminator_loss(GT, SR).item() == pytest.approx(0.25 - 1.25)
    zero = torch.zeros(3, 1)
    assert GANLoss("template").discriminator_loss(zero, zero).item() == 1.0
    assert GANLoss("relativistic")(zero, zero).item() == pytest.approx(2 * math.log(2))


def test_labels_by_hand() -> None:
    smooth = {"real_label_val": 0.9, "fake_label_val": 0.1}
    found = GANLoss("lsgan", **smooth).discriminator_loss(torch.tensor([[1.0]]), torch.tensor([[0.0]])).item()
    assert found == pytest.approx(0.01 + 0.01)
    x = 0.7
    cross = 0.9 * softplus(-x) + 0.1 * softplus(x)
    assert GANLoss("vanilla", **smooth)(torch.tensor([[x]])).item() == pytest.approx(cross)
    assert GANLoss("lsgan", **smooth)(torch.tensor([[0.5]])).item() == pytest.approx(0.16)
    below = 0.1 * softplus(0.3) + 0.9 * softplus(-0.3)
    found = GANLoss("vanilla", **smooth).discriminator_loss(torch.tensor([[x]]), torch.tensor([[-0.3]])).item()
    assert found == pytest.approx(cross + below)
    # One logit a side, 0.7 apart: the raised one is 0.7 above, the lowered one 0.7 below the other.
    both = cross + 0.1 * softplus(x) + 0.9 * softplus(-x)
    above, zero, term = torch.tensor([[x]]), torch.tensor([[0.0]]), GANLoss("relativistic", **smooth)
    for found in (
        relativistic_loss(above, zero, "sum", 0.9, 0.1),
        term(above, zero),
        term.discriminator_loss(above, zero),
    ):
        assert found.item() == pytest.approx(both)


def test_relativistic_mean_is_half_the_sum() -> None:
    sr, gt = logits()
    total, half = GANLoss("relativistic"), GANLoss("relativistic", relativistic_reduction="mean")
    assert half(sr, gt).item() == pytest.approx(total(sr, gt).item() / 2)
    assert half.discriminator_loss(gt, sr).item() == pytest.approx(total.discriminator_loss(gt, sr).item() / 2)


def test_relativistic_sides_are_each_other_swapped() -> None:
    sr, gt = logits()
    term = GANLoss("relativistic")
    assert term(sr, gt) == term.discriminator_loss(sr, gt)


@pytest.mark.parametrize("gan_type", ["relativistic", "wgan"])
def test_discriminator_cannot_gain_by_a_common_shift(gan_type: str) -> None:
    sr, gt = logits()
    term = GANLoss(gan_type)
    shifted = term.discriminator_loss(gt + 3, sr + 3).item()
    assert shifted == pytest.approx(term.discriminator_loss(gt, sr).item(), rel=1e-9)


@pytest.mark.parametrize("gan_type", TYPES)
def test_order_and_batch_size_do_not_matter(gan_type: str) -> None:
    sr, gt = logits()
    term = GANLoss(gan_type)
    for other in ((sr.flip(0), gt), (torch.cat([sr, sr]), torch.cat([gt, gt])), (torch.cat([sr, sr]), gt)):
        assert term(*other).item() == pytest.approx(term(sr, gt).item(), rel=1e-12)
        assert term.discriminator_loss(*other[::-1]).item() == pytest.approx(
            term.discriminator_loss(gt, sr).item(), rel=1e-12
        )


@pytest.mark.parametrize("gan_type", TYPES)
def test_gradient(gan_type: str) -> None:
    sr, gt = (x.requires_grad_() for x in logits())
    term = GANLoss(gan_type)
    assert torch.autograd.gradcheck(term.discriminator_loss, (gt, sr))
    assert torch.autograd.gradcheck(lambda sr: term(sr, gt.detach()), (sr,))


@pytest.mark.parametrize("gan_type", TYPES)
def test_a_step_against_the_gradient_lowers_each_side(gan_type: str) -> None:
    sr, gt = (x.requires_grad_() for x in logits())
    term = GANLoss(gan_type)
    up = torch.autograd.grad(term(sr, gt), sr)[0]
    real, fake = torch.autograd.grad(term.discriminator_loss(gt, sr), (gt, sr))
    assert term(sr - 0.01 * up, gt) < term(sr, gt)
    assert term.discriminator_loss(gt - 0.01 * real, sr - 0.01 * fake) < term.discriminator_loss(gt, sr)


@pytest.mark.parametrize("gan_type", TYPES)
def test_each_side_pulls_the_logits_its_own_way(gan_type: str) -> None:
    """Logits between the two labels: the generator raises sr's, the discriminator raises gt's and lowers sr's."""
    sr, gt = (torch.full((3, 1), x, requires_grad=True) for x in (0.4, 0.6))
    term = GANLoss(gan_type)
    real, fake = torch.autograd.grad(term.discriminator_loss(gt, sr), (gt, sr))
    assert (torch.autograd.grad(term(sr, gt), sr)[0] < 0).all()
    assert (real < 0).all()
    assert (fake > 0).all()


@pytest.mark.parametrize("gan_type", TYPES)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_finite_for_a_discriminator_that_is_sure(gan_type: str, size: float) -> None:
    sr, gt = (torch.full((2, 1), x, requires_grad=True) for x in (-size, size))
    term = GANLoss(gan_type)
    for loss in (term(sr, gt), term.discriminator_loss(gt, sr)):
        assert torch.isfinite(loss)
        grads = torch.autograd.grad(loss, (sr, gt), allow_unused=True)
        assert all(torch.isfinite(g).all() for g in grads if g is not None)


@pytest.mark.parametrize("gan_type", TYPES)
def test_asks_for_no_more_than_it_uses(gan_type: str) -> None:
    sides = GANLoss(gan_type).objectives()
    wanted = {name: list(inspect.signature(side).parameters) for name, side in sides.items()}
    generator = ["sr_logits", "gt_logits"] if gan_type == "relativistic" else ["sr_logits"]
    assert wanted == {"generator": generator, "discriminator": ["gt_logits", "sr_logits"]}
    sr, gt = logits()
    tensors = {"sr_logits": sr, "gt_logits": gt}
    term = GANLoss(gan_type)
    assert sides["generator"](*(tensors[n] for n in wanted["generator"])) == term(sr, gt)
    assert sides["discriminator"](gt, sr) == term.discriminator_loss(gt, sr)


def test_weight_is_the_generators() -> None:
    term = GANLoss("hinge", loss_weight=2e-3)
    assert term.weight_for("generator") == 2e-3
    assert term.weight_for("discriminator") == 1.0
    with pytest.raises(
        ValueError, match="GANLoss has no part in the objective 'metric_net'; expected one of: generator"
    ):
        term.weight_for("metric_net")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gan_type": "ragan"}, "gan_type: expected one of vanilla, lsgan, .*; got 'ragan'"),
        ({"gan_type": "hing"}, r"got 'hing'. Did you mean 'hinge'\?"),
        ({"gan_type": "hinge", "real_label_val": 0.9}, "gan_type 'hinge' has no labels, got real_label_val 0.9"),
        ({"gan_type": "template", "fake_label_val": 0.1}, "gan_type 'template' has no labels, .* fake_label_val 0.1"),
        (
            {"gan_type": "relativistic", "relativistic_reduction": "half"},
            "relativistic_reduction: expected one of sum, mean; got 'half'",
        ),
        (
            {"gan_type": "vanilla", "relativistic_reduction": "mean"},
            "relativistic_reduction 'mean' has no effect on gan_type 'vanilla'; leave it out",
        ),
    ],
)
def test_refuses_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANLoss(**options)


@pytest.mark.parametrize("gan_type", LABELLED_TYPES)
def test_takes_labels_where_they_mean_something(gan_type: str) -> None:
    sr, gt = logits()
    smooth = GANLoss(gan_type, real_label_val=0.9)
    assert smooth.discriminator_loss(gt, sr) != GANLoss(gan_type).discriminator_loss(gt, sr)


@pytest.mark.parametrize("gan_type", TYPES)
@pytest.mark.parametrize(
    ("gt", "sr", "message"),
    [
        (torch.tensor(1.0), GT, r"expected gt_logits of shape \(N, ...\) with N > 0, got \(\)"),
        (GT, torch.zeros(0, 1), r"expected sr_logits of shape \(N, ...\) with N > 0, got \(0, 1\)"),
        (GT, torch.zeros(2, 4), r"of the same shape \(N, ...\) but for N, got \(2, 1\) and \(2, 4\)"),
        (GT, torch.zeros(2), r"of the same shape \(N, ...\) but for N, got \(2, 1\) and \(2,\)"),
    ],
)
def test_refuses_logits(gan_type: str, gt: Tensor, sr: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GANLoss(gan_type).discriminator_loss(gt, sr)


def test_relativistic_generator_needs_references() -> None:
    with pytest.raises(ValueError, match="gan_type 'relativistic': expected gt_logits beside sr_logits, got none"):
        GANLoss("relativistic")(SR)
