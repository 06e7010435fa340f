"""Perceptual loss over a small random extractor: values by hand and by loops, gradients, freezing, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import mvmsr.archs
from mvmsr.losses.perceptual import PerceptualLoss, gram_matrix, over_image_mean

WEIGHTS = {"first": 1.0, "second": 0.5}


class Identity(nn.Module):
    """One layer, the picture itself."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"image": image}


class Small(nn.Module):
    """Two random convolutions and a dropout that a training mode would reveal."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.first = nn.Conv2d(3, 4, 3, dtype=torch.float64)
            self.second = nn.Conv2d(4, 2, 3, stride=2, dtype=torch.float64)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        first = torch.relu(self.first(image))
        return {"first": self.dropout(first), "second": self.second(first), "unused": first}


def pictures(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sr, gt = (torch.rand(batch, 3, 8, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    return sr, gt


@pytest.mark.parametrize(("criterion", "expected"), [("l1", 3.5), ("l2", 12.5), ("fro", 5.0)])
def test_value_by_hand(criterion: str, expected: float) -> None:
    sr, gt = torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]]])
    term = PerceptualLoss(Identity(), {"image": 2.0}, perceptual_weight=0.5, criterion=criterion)
    assert term(sr, gt).item() == pytest.approx(expected)
    assert term.components(sr, gt)["perceptual"].item() == pytest.approx(2 * expected)


def test_style_by_hand() -> None:
    # Gram of gt: (9 + 16) / 2; of sr: 0.
    sr, gt = torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 4.0]]]])
    term = PerceptualLoss(Identity(), {"image": 1.0}, perceptual_weight=0.0, style_weight=10.0)
    assert term(sr, gt).item() == pytest.approx(125.0)
    assert list(term.components(sr, gt)) == ["style"]
    both = PerceptualLoss(Identity(), {"image": 1.0}, perceptual_weight=2.0, style_weight=10.0)
    assert both(sr, gt).item() == pytest.approx(2 * 3.5 + 125.0)


def test_image_mean_by_hand() -> None:
    # Over its mean: sr (0.5, 1.5), gt (1, 1), so a brighter copy is no different.
    sr, gt = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[7.0, 7.0]]]])
    term = PerceptualLoss(Identity(), {"image": 1.0}, criterion="l2", feature_norm="image_mean")
    assert term(sr, gt).item() == pytest.approx(0.25)
    assert term(5 * gt, gt).item() == pytest.approx(0.0)


def test_image_mean_is_each_pictures_own() -> None:
    features = torch.rand(3, 4, 5, 6) + 0.1
    expected = torch.stack([f / f.mean() for f in features])
    torch.testing.assert_close(over_image_mean(features), expected)
    torch.testing.assert_close(over_image_mean(1e-4 * features), expected)  # as deep layers are
    black = torch.zeros(1, 4, 5, 6, requires_grad=True)
    over_image_mean(black).sum().backward()
    assert torch.isfinite(black.grad).all()


def test_image_mean_is_that_of_magnitudes() -> None:
    assert over_image_mean(torch.tensor([[[[-1.0, 3.0]]]])).tolist() == [[[[-0.5, 1.5]]]]


def test_gram_equals_loops() -> None:
    features = pictures()[0]
    n, c, h, w = features.shape
    expected = torch.empty(n, c, c, dtype=torch.float64)
    for i in range(n):
        for p in range(c):
            for q in range(c):
                expected[i, p, q] = (features[i, p] * features[i, q]).sum() / (c * h * w)
    torch.testing.assert_close(gram_matrix(features), expected)


def naive(sr: Tensor, gt: Tensor, criterion: str, style: bool) -> float:
    """The weighted sum over layers, with the differences summed number by number."""
    extractor = Small().eval()
    total = 0.0
    for layer, weight in WEIGHTS.items():
        x, y = extractor(sr)[layer], extractor(gt)[layer]
        if style:
            x, y = gram_matrix(x), gram_matrix(y)
        differences = [p - q for p, q in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)]
        squares = sum(d * d for d in differences)
        total += (
            weight
            * {
                "l1": sum(map(abs, differences)) / len(differences),
                "l2": squares / len(differences),
                "fro": math.sqrt(squares),
            }[criterion]
        )
    return total


@pytest.mark.parametrize("criterion", ["l1", "l2", "fro"])
def test_equals_loops(criterion: str) -> None:
    sr, gt = pictures()
    term = PerceptualLoss(Small(), WEIGHTS, style_weight=3.0, perceptual_weight=0.2, criterion=criterion)
    expected = 0.2 * naive(sr, gt, criterion, style=False) + 3.0 * naive(sr, gt, criterion, style=True)
    assert term(sr, gt).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("criterion", "factor"), [("l1", 1), ("l2", 1), ("fro", math.sqrt(2))])
def test_growth_with_the_batch(criterion: str, factor: float) -> None:
    sr, gt = pictures()
    term = PerceptualLoss(Small(), WEIGHTS, style_weight=1.0, criterion=criterion)
    doubled = term(torch.cat([sr, sr]), torch.cat([gt, gt])).item()
    assert doubled == pytest.approx(factor * term(sr, gt).item(), rel=1e-9)
    assert term(sr.flip(0), gt.flip(0)).item() == pytest.approx(term(sr, gt).item(), rel=1e-12)


@pytest.mark.parametrize("criterion", ["l1", "l2", "fro"])
@pytest.mark.parametrize("feature_norm", ["none", "image_mean"])
def test_gradient(criterion: str, feature_norm: str) -> None:
    sr, gt = pictures(batch=1)
    term = PerceptualLoss(Small(), WEIGHTS, style_weight=1.0, criterion=criterion, feature_norm=feature_norm)
    sr, gt = sr[..., :6, :6].clone().requires_grad_(), gt[..., :6, :6]
    assert torch.autograd.gradcheck(lambda x: term(x, gt), (sr,))
    loss = term(sr, gt)
    grad = torch.autograd.grad(loss, sr)[0]
    assert term(sr - 1e-3 * grad, gt) < loss


@pytest.mark.parametrize("criterion", ["l1", "l2", "fro"])
def test_zero_with_zero_gradient_for_equal_pictures(criterion: str) -> None:
    _, gt = pictures()
    sr = gt.clone().requires_grad_()
    loss = PerceptualLoss(Small(), WEIGHTS, style_weight=1.0, criterion=criterion)(sr, gt)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(sr.grad, torch.zeros_like(gt))


def test_extractor_is_frozen_and_the_reference_gets_no_gradient() -> None:
    sr, gt = (x.requires_grad_() for x in pictures())
    term = PerceptualLoss(Small(), WEIGHTS)
    term.train()
    assert not term.extractor.training
    assert term.training
    assert term(sr, gt) == term(sr, gt)
    term(sr, gt).backward()
    assert gt.grad is None
    assert all(p.grad is None and not p.requires_grad for p in term.extractor.parameters())


def test_names_the_network_it_needs() -> None:
    spec = PerceptualLoss.extractor_spec({"pool2": 0.2, "pool5": 0.02}, "vgg16", False, True)
    assert spec == {
        "type": "VGGFeatures",
        "vgg_type": "vgg16",
        "layers": ["pool2", "pool5"],
        "use_input_norm": False,
        "range_norm": True,
        "weights": "vgg16",
    }


def test_the_network_it_needs_can_be_built() -> None:
    spec = PerceptualLoss.extractor_spec({"relu1_1": 1.0, "conv1_2": 0.1})
    assert spec.pop("weights") == "vgg19"  # for the engine, which fills the network
    extractor = getattr(mvmsr.archs, spec.pop("type"))(**spec)
    term = PerceptualLoss(extractor, {"relu1_1": 1.0, "conv1_2": 0.1})
    sr, gt = (x.float() for x in pictures())
    assert term(sr, gt).item() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_weights": {}}, "layer_weights: expected a weight by layer name, .*; got {}"),
        ({"layer_weights": ["first"]}, r"layer_weights: expected a weight by layer name, .*; got \['first'\]"),
        ({"criterion": "L1"}, r"criterion: expected one of l1, l2, fro; got 'L1'. Did you mean 'l1'\?"),
        ({"feature_norm": "mean"}, "feature_norm: expected one of none, image_mean; got 'mean'"),
        ({"perceptual_weight": 0.0}, "perceptual_weight and style_weight: expected at least one not to be 0"),
    ],
)
def test_refuses_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerceptualLoss(**({"extractor": Small(), "layer_weights": WEIGHTS} | options))


def test_refuses_a_layer_that_does_not_come() -> None:
    term = PerceptualLoss(Small(), {"first": 1.0, "third": 1.0})
    with pytest.raises(ValueError, match="the extractor returns first, second, unused, not third"):
        term(*pictures())


def test_refuses_shapes() -> None:
    sr, gt = pictures()
    with pytest.raises(ValueError, match=r"expected sr and gt of the same shape \(N, C, H, W\), got \(2, 3, 8, 9\)"):
        PerceptualLoss(Small(), WEIGHTS)(sr, gt[..., :6, :6])
