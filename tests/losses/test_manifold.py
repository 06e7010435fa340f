"""Pair and manifold matching: values by hand and by loops, presets, laws of scale and batch, gradients, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mvmsr.losses.manifold import ManifoldMatchingLoss, PairLoss, diameter_loss, pair_loss

GT = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
SR = torch.tensor([[3.0, 4.0], [3.0, 0.0]])
TERMS = [
    PairLoss(),
    PairLoss(reduction="frobenius"),
    ManifoldMatchingLoss(preset="paper"),
    ManifoldMatchingLoss(preset="official"),
]


def batches(seed: int = 0, rows: int = 5, width: int = 3) -> tuple[Tensor, Tensor]:
    """Double-precision sr and gt embeddings."""
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return gt * 0.6 + 0.3 + 0.2 * torch.randn(rows, width, generator=generator, dtype=torch.float64), gt


def matrix(points: Tensor) -> list[list[float]]:
    rows = points.tolist()
    return [[sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) for y in rows] for x in rows]


def naive_matching(sr: Tensor, gt: Tensor, diameter: str) -> float:
    """Equation (1) with loops; its second part as in the paper or as in the released code."""
    n = len(gt)
    means = [[sum(column) / n for column in zip(*points.tolist(), strict=True)] for points in (sr, gt)]
    d_c = math.sqrt(sum((p - q) ** 2 for p, q in zip(*means, strict=True)))
    m_sr, m_gt = matrix(sr), matrix(gt)
    if diameter == "abs_diff":
        return d_c + abs(math.sqrt(sum(map(sum, m_sr))) - math.sqrt(sum(map(sum, m_gt)))) / n
    return d_c + math.sqrt(sum((m_sr[i][j] - m_gt[i][j]) ** 2 for i in range(n) for j in range(n)))


def test_values_by_hand() -> None:
    assert PairLoss()(SR, GT).item() == pytest.approx((5 + 1) / 2)
    assert PairLoss(reduction="frobenius")(SR, GT).item() == pytest.approx(math.sqrt(25 + 1))
    # Means (1, 0) and (3, 2); 2-diameters 2/sqrt(2) and 4/sqrt(2); squared distances 4 and 16, each twice.
    d_c, d_g, frobenius = math.sqrt(8), math.sqrt(2), 12 * math.sqrt(2)
    assert ManifoldMatchingLoss()(SR, GT).item() == pytest.approx(d_c + d_g)
    assert ManifoldMatchingLoss(diameter="frobenius_sq")(SR, GT).item() == pytest.approx(d_c + frobenius)
    assert ManifoldMatchingLoss(diameter_weight=3)(SR, GT).item() == pytest.approx(d_c + 3 * d_g)
    assert ManifoldMatchingLoss(centroid_weight=0)(SR, GT).item() == pytest.approx(d_g)
    assert ManifoldMatchingLoss(diameter_weight=0)(SR, GT).item() == pytest.approx(d_c)


@pytest.mark.parametrize("seed", range(3))
def test_equals_loops(seed: int) -> None:
    sr, gt = batches(seed)
    distances = [math.sqrt(sum(d * d for d in row)) for row in (sr - gt).tolist()]
    assert pair_loss(sr, gt).item() == pytest.approx(sum(distances) / 5, rel=1e-12)
    assert pair_loss(sr, gt, "frobenius").item() == pytest.approx(math.sqrt(sum(d * d for d in distances)), rel=1e-12)
    for diameter in ("abs_diff", "frobenius_sq"):
        value = ManifoldMatchingLoss(diameter=diameter)(sr, gt).item()
        assert value == pytest.approx(naive_matching(sr, gt, diameter), rel=1e-9)


def test_frobenius_equals_cdist() -> None:
    sr, gt = batches(rows=12)
    expected = torch.linalg.matrix_norm(torch.cdist(gt, gt) ** 2 - torch.cdist(sr, sr) ** 2)
    assert diameter_loss(gt, sr, "frobenius_sq").item() == pytest.approx(expected.item(), rel=1e-9)


def test_presets() -> None:
    sr, gt = batches()
    values = {d: ManifoldMatchingLoss(diameter=d)(sr, gt) for d in ("abs_diff", "frobenius_sq")}
    assert ManifoldMatchingLoss()(sr, gt) == values["abs_diff"]
    assert ManifoldMatchingLoss(preset="paper")(sr, gt) == values["abs_diff"]
    assert ManifoldMatchingLoss(preset="official")(sr, gt) == values["frobenius_sq"]
    assert ManifoldMatchingLoss(preset="official", diameter="frobenius_sq")(sr, gt) == values["frobenius_sq"]
    assert values["abs_diff"] != values["frobenius_sq"]


@pytest.mark.parametrize("term", TERMS)
def test_zero_with_zero_gradient_for_equal_batches(term: torch.nn.Module) -> None:
    _, gt = batches()
    sr = gt.clone().requires_grad_()
    loss = term(sr, gt)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(sr.grad, torch.zeros_like(gt))


@pytest.mark.parametrize("term", TERMS)
def test_finite_gradient_for_a_collapsed_batch(term: torch.nn.Module) -> None:
    """All super-resolved pictures in one point, as when the generator has collapsed."""
    _, gt = batches()
    sr = torch.zeros_like(gt).requires_grad_()
    term(sr, gt).backward()
    assert torch.isfinite(sr.grad).all()


@pytest.mark.parametrize("term", TERMS)
def test_invariant_to_common_shift_and_order(term: torch.nn.Module) -> None:
    sr, gt = batches()
    value = term(sr, gt).item()
    order = torch.tensor([4, 2, 0, 1, 3])
    assert term(sr + 5, gt + 5).item() == pytest.approx(value, rel=1e-9)
    assert term(sr[order], gt[order]).item() == pytest.approx(value, rel=1e-9)
    assert term(gt, sr).item() == pytest.approx(value, rel=1e-9)


def test_which_values_see_the_pairing() -> None:
    _, gt = batches()
    permuted = gt[torch.tensor([4, 2, 0, 1, 3])]
    assert ManifoldMatchingLoss(preset="paper")(permuted, gt).item() == pytest.approx(0.0, abs=1e-9)
    assert ManifoldMatchingLoss(preset="official")(permuted, gt).item() > 1
    assert PairLoss()(permuted, gt).item() > 1


@pytest.mark.parametrize(("diameter", "power"), [("abs_diff", 1), ("frobenius_sq", 2)])
def test_scale_law(diameter: str, power: int) -> None:
    sr, gt = batches()
    value = diameter_loss(gt, sr, diameter).item()
    assert diameter_loss(3 * gt, 3 * sr, diameter).item() == pytest.approx(3**power * value, rel=1e-9)


@pytest.mark.parametrize(
    ("function", "factor"),
    [
        (lambda sr, gt: pair_loss(sr, gt), 1),
        (lambda sr, gt: pair_loss(sr, gt, "frobenius"), math.sqrt(2)),
        (lambda sr, gt: diameter_loss(gt, sr), 1),
        (lambda sr, gt: diameter_loss(gt, sr, "frobenius_sq"), 2),
    ],
)
def test_growth_with_the_batch(function, factor: float) -> None:
    sr, gt = batches()
    doubled = function(torch.cat([sr, sr]), torch.cat([gt, gt])).item()
    assert doubled == pytest.approx(factor * function(sr, gt).item(), rel=1e-9)


@pytest.mark.parametrize("term", TERMS)
def test_gradient(term: torch.nn.Module) -> None:
    sr, gt = (x.requires_grad_() for x in batches(rows=4))
    assert torch.autograd.gradcheck(term, (sr, gt))


@pytest.mark.parametrize("diameter", ["abs_diff", "frobenius_sq"])
def test_gradient_where_two_rows_coincide(diameter: str) -> None:
    sr, gt = batches(rows=4)
    sr[1], gt[2] = sr[0], gt[3]
    term = ManifoldMatchingLoss(diameter=diameter)
    assert torch.autograd.gradcheck(term, (sr.requires_grad_(), gt.requires_grad_()))


@pytest.mark.parametrize("term", TERMS)
def test_a_step_against_the_gradient_lowers_the_loss(term: torch.nn.Module) -> None:
    sr, gt = batches()
    sr.requires_grad_()
    loss = term(sr, gt)
    loss.backward()
    assert term(sr - 1e-3 * sr.grad, gt) < loss


def test_descent_matches_centroid_and_diameter_of_unpaired_sets() -> None:
    sr, gt = batches(rows=16)
    sr = (3 * sr.flip(0) - 4).requires_grad_()
    term = ManifoldMatchingLoss()
    optimizer = torch.optim.Adam([sr], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        term(sr, gt).backward()
        optimizer.step()
    assert term(sr, gt).item() < 0.3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PairLoss(reduction="sum"), "reduction: expected one of mean, frobenius; got 'sum'"),
        (
            lambda: ManifoldMatchingLoss(diameter="frobenius"),
            "diameter: expected one of abs_diff, frobenius_sq; got 'frobenius'. Did you mean 'frobenius_sq'",
        ),
        (
            lambda: ManifoldMatchingLoss(preset="code"),
            "preset: expected one of paper, official; got 'code'",
        ),
        (
            lambda: ManifoldMatchingLoss(preset="paper", diameter="frobenius_sq"),
            "preset 'paper' means diameter = 'abs_diff', but diameter = 'frobenius_sq' was given; leave one",
        ),
        (
            lambda: ManifoldMatchingLoss(preset="official", diameter="abs_diff"),
            "preset 'official' means diameter = 'frobenius_sq', but diameter = 'abs_diff' was given; leave one",
        ),
    ],
)
def test_refuses_options(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize(("left", "right"), [((3, 2), (4, 2)), ((3, 2), (3, 1)), ((3,), (3,)), ((0, 2), (0, 2))])
def test_refuses_shapes(term: torch.nn.Module, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected gt_embeddings .*of .*shape \(N, D\).*, got \("):
        term(torch.zeros(left), torch.zeros(right))


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_refuses_a_single_point(preset: str) -> None:
    with pytest.raises(ValueError, match="expected a batch of at least 2 embeddings, got 1; a single point has no"):
        ManifoldMatchingLoss(preset=preset)(torch.zeros(1, 3), torch.ones(1, 3))


def test_a_pair_may_be_alone() -> None:
    assert PairLoss()(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item() == 5.0
