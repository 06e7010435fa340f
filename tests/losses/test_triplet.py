"""Directed triplet loss: values by hand and by loops, presets, gradients, health, errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvmsr.losses.triplet import (
    DirectedTripletLoss,
    all_triplet_margins,
    direction_cosine,
    triplet_margins,
)

# Three rows each; the anchor's own index never comes back as positive.
SHIFT = torch.tensor([1, 2, 0])
KEEP = torch.tensor([0, 1, 2])
GT = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
SR = torch.tensor([[0.0, 1.0], [3.0, 0.0], [0.0, 4.0]])
# a-p: 1, 5, 4.  a-n: 1, 4, 4.  n-a: (0, 1), (2, 0), (0, 2); p-a: (1, 0), (-1, 2), (0, -2).
COSINES = [0.0, -1 / math.sqrt(5), -1.0]


def directed_triplet_loss(gt, sr, positive, negative, margin=1.0, direction_weight=0.01, cos_reduce=None, hinge=None):
    term = DirectedTripletLoss(1.0, margin, direction_weight, cos_reduce, hinge, triplets="shuffle")
    return term(gt, sr, positive, negative)


def batch(seed: int = 0, rows: int = 5, width: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    gt = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    sr = gt + 0.4 * torch.randn(rows, width, generator=generator, dtype=torch.float64) + 0.2
    return gt, sr, torch.arange(rows).roll(1), torch.randperm(rows, generator=generator)


def naive(gt, sr, positive, negative, margin, gamma, cos_reduce, hinge) -> float:
    """Equation (2), or the released code's variant, with loops over triplets and coordinates."""
    triplets = [(gt[i].tolist(), gt[positive[i]].tolist(), sr[negative[i]].tolist()) for i in range(len(gt))]

    def minus(x: list[float], y: list[float]) -> list[float]:
        return [p - q for p, q in zip(x, y, strict=True)]

    def dot(x: list[float], y: list[float]) -> float:
        return sum(p * q for p, q in zip(x, y, strict=True))

    def cosine(a: list[float], p: list[float], n: list[float]) -> float:
        u, v = minus(n, a), minus(p, a)
        return dot(u, v) / (max(math.sqrt(dot(u, u)), 1e-6) * max(math.sqrt(dot(v, v)), 1e-6))

    cosines = [cosine(*t) for t in triplets]
    total = 0.0
    for (a, p, n), cos in zip(triplets, cosines, strict=True):
        direction = cos if cos_reduce == "per_sample" else sum(cosines)
        inside = dot(minus(a, p), minus(a, p)) - dot(minus(a, n), minus(a, n)) + margin - gamma * direction
        total += max(inside, 0.0) if hinge == "relu" else math.log1p(math.exp(inside))
    return total / len(gt)


def test_value_by_hand() -> None:
    expected = (1 - 1 + 1) + (5 - 4 + 1 + 0.1 / math.sqrt(5)) + (4 - 4 + 1 + 0.1)
    assert directed_triplet_loss(GT, SR, SHIFT, KEEP, 1.0, 0.1).item() == pytest.approx(expected / 3)
    expected_sum = 1 + 2 + 1 - 3 * 0.1 * sum(COSINES)
    assert directed_triplet_loss(GT, SR, SHIFT, KEEP, 1.0, 0.1, "batch_sum").item() == pytest.approx(expected_sum / 3)
    # With margin -1 and no regulariser the hinges hold -1, 0 and -1.
    assert directed_triplet_loss(GT, SR, SHIFT, KEEP, -1.0, 0.0).item() == 0.0
    softplus = (2 * math.log1p(math.exp(-1)) + math.log(2)) / 3
    assert directed_triplet_loss(GT, SR, SHIFT, KEEP, -1.0, 0.0, hinge="softplus").item() == pytest.approx(softplus)


@pytest.mark.parametrize("cos_reduce", ["per_sample", "batch_sum"])
@pytest.mark.parametrize("hinge", ["relu", "softplus"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_loops(cos_reduce: str, hinge: str, seed: int) -> None:
    gt, sr, positive, negative = batch(seed)
    found = directed_triplet_loss(gt, sr, positive, negative, 0.7, 0.3, cos_reduce, hinge).item()
    assert found == pytest.approx(naive(gt, sr, positive, negative, 0.7, 0.3, cos_reduce, hinge), rel=1e-12)


def test_without_direction_equals_torch_on_squared_distances() -> None:
    gt, sr, positive, negative = batch()
    expected = torch.nn.functional.triplet_margin_with_distance_loss(
        gt, gt[positive], sr[negative], distance_function=lambda x, y: (x - y).square().sum(dim=1), margin=0.7
    )
    assert directed_triplet_loss(gt, sr, positive, negative, 0.7, 0.0).item() == pytest.approx(expected.item())


def test_cosine_equals_torch() -> None:
    gt, sr, positive, negative = batch()
    expected = torch.nn.functional.cosine_similarity(sr[negative] - gt, gt[positive] - gt, eps=1e-6)
    torch.testing.assert_close(direction_cosine(gt, gt[positive], sr[negative]), expected)


def test_norms_below_a_millionth_count_as_that() -> None:
    positive, negative = torch.tensor([[1e-4, 0.0], [1e-7, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(direction_cosine(torch.zeros(2, 2), positive, negative), torch.tensor([1.0, 0.1]))


def regulariser_gradient(cos_reduce: str, rows: int) -> Tensor:
    """Gradient that the cosine alone puts on the generated embeddings, all hinges active."""
    gt, sr, positive, negative = batch(rows=rows)
    sr.requires_grad_()

    def gradient(direction_weight: float) -> Tensor:
        margins, _ = triplet_margins(gt, sr, positive, negative, 100.0, direction_weight, cos_reduce)
        assert (margins > 0).all()
        loss = directed_triplet_loss(gt, sr, positive, negative, 100.0, direction_weight, cos_reduce)
        return torch.autograd.grad(loss, sr)[0]

    return gradient(0.01) - gradient(0.0)


@pytest.mark.parametrize("rows", [2, 5, 32])
def test_batch_sum_has_the_batch_size_times_the_gradient(rows: int) -> None:
    torch.testing.assert_close(regulariser_gradient("batch_sum", rows), rows * regulariser_gradient("per_sample", rows))


def test_largest_shift_of_the_presets() -> None:
    """A real line with every negative beyond its positive: all cosines are 1, so the shifts are gamma and N gamma."""
    rows = 32
    gt = torch.zeros(rows, 1, dtype=torch.float64)
    gt[::2] = 1.0
    positive = torch.arange(rows).roll(1)
    sr = torch.where(gt[positive] > gt, gt + 3, gt - 3)
    keep = torch.arange(rows)
    values = {
        preset: DirectedTripletLoss(margin=20.0, preset=preset)(gt, sr, positive, keep).item()
        for preset in ("paper", "official")
    }
    assert values["paper"] == pytest.approx(1 - 9 + 20 - 0.01)
    assert values["official"] == pytest.approx(1 - 9 + 20 - 0.32)


def test_a_larger_cosine_lowers_the_loss() -> None:
    gt = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    swap, keep = torch.tensor([1, 0]), torch.tensor([0, 1])
    towards = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    away = torch.tensor([[-0.5, 0.0], [1.5, 0.0]])
    near, far = (directed_triplet_loss(gt, sr, swap, keep, direction_weight=0.2).item() for sr in (towards, away))
    assert far - near == pytest.approx(0.4)


def test_presets() -> None:
    batch_ = batch()
    paper, official = DirectedTripletLoss(preset="paper"), DirectedTripletLoss(preset="official")
    assert paper(*batch_) == DirectedTripletLoss(triplets="shuffle")(*batch_)
    assert official(*batch_) == directed_triplet_loss(*batch_, cos_reduce="batch_sum")
    assert official(*batch_) != paper(*batch_)
    assert DirectedTripletLoss(preset="official", cos_reduce="batch_sum", hinge="relu")(*batch_) == official(*batch_)


def test_all_triplets_unless_the_literal_loss_is_asked_for() -> None:
    batch_ = batch()
    every = all_triplet_margins(*batch_[:2])[0].relu().mean()
    assert DirectedTripletLoss()(*batch_) == DirectedTripletLoss(preset="paper", triplets="all")(*batch_) == every
    assert DirectedTripletLoss(cos_reduce="batch_sum")(*batch_) == DirectedTripletLoss(preset="official")(*batch_)


@pytest.mark.parametrize("cos_reduce", ["per_sample", "batch_sum"])
def test_invariances(cos_reduce: str) -> None:
    gt, sr, positive, negative = batch()
    value = directed_triplet_loss(gt, sr, positive, negative, 1.0, 0.3, cos_reduce).item()
    turn = torch.linalg.qr(torch.arange(9.0, dtype=torch.float64).reshape(3, 3) + 3 * torch.eye(3))[0]
    moved = directed_triplet_loss(gt @ turn + 4, sr @ turn + 4, positive, negative, 1.0, 0.3, cos_reduce).item()
    assert moved == pytest.approx(value, rel=1e-9)
    # Renaming the rows, with the indices renamed alike, leaves the set of triplets.
    order = torch.tensor([3, 1, 4, 0, 2])
    where = order.argsort()
    renamed = directed_triplet_loss(
        gt[order], sr[order], where[positive[order]], where[negative[order]], 1.0, 0.3, cos_reduce
    ).item()
    assert renamed == pytest.approx(value, rel=1e-12)


def test_scale_law() -> None:
    gt, sr, positive, negative = batch()
    value = directed_triplet_loss(gt, sr, positive, negative, 1.0, 0.3).item()
    scaled = directed_triplet_loss(3 * gt, 3 * sr, positive, negative, 9.0, 2.7).item()
    assert scaled == pytest.approx(9 * value, rel=1e-9)


def test_batch_size_matters_to_batch_sum_alone() -> None:
    gt, sr, positive, negative = batch()
    twice = (torch.cat([gt, gt]), torch.cat([sr, sr]), torch.cat([positive, positive + 5]), torch.cat([negative] * 2))
    once = (gt, sr, positive, negative)
    assert directed_triplet_loss(*twice).item() == pytest.approx(directed_triplet_loss(*once).item(), rel=1e-12)
    sums = [directed_triplet_loss(*x, 100.0, 0.3, "batch_sum").item() for x in (once, twice)]
    cosines = triplet_margins(*once)[1]
    assert sums[0] - sums[1] == pytest.approx(0.3 * cosines.sum().item(), rel=1e-9)


@pytest.mark.parametrize("cos_reduce", ["per_sample", "batch_sum"])
@pytest.mark.parametrize("hinge", ["relu", "softplus"])
def test_gradient(cos_reduce: str, hinge: str) -> None:
    gt, sr, positive, negative = batch(rows=4)

    def loss(gt: Tensor, sr: Tensor) -> Tensor:
        return directed_triplet_loss(gt, sr, positive, negative, 0.7, 0.3, cos_reduce, hinge)

    assert torch.autograd.gradcheck(loss, (gt.requires_grad_(), sr.requires_grad_()))


def test_an_anchor_as_its_own_positive_adds_nothing_but_its_distance() -> None:
    gt, sr, _, negative = batch()
    keep = torch.arange(5)
    gt.requires_grad_()
    sr.requires_grad_()
    grads = [
        torch.autograd.grad(directed_triplet_loss(gt, sr, keep, negative, 100.0, gamma), (gt, sr))
        for gamma in (0.0, 10.0)
    ]
    for plain, directed in zip(*grads, strict=True):
        assert torch.equal(plain, directed)
    assert torch.equal(triplet_margins(gt, sr, keep, negative)[1], torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("cos_reduce", ["per_sample", "batch_sum"])
def test_finite_gradient_where_everything_coincides(cos_reduce: str) -> None:
    gt = torch.ones(4, 3, requires_grad=True)
    sr = torch.ones(4, 3, requires_grad=True)
    index = torch.tensor([1, 0, 3, 2])
    loss = directed_triplet_loss(gt, sr, index, index, cos_reduce=cos_reduce)
    grads = torch.autograd.grad(loss, (gt, sr))
    assert loss.item() == 1.0
    assert all(torch.equal(g, torch.zeros(4, 3)) for g in grads)


@pytest.mark.parametrize("term", [DirectedTripletLoss(preset="paper"), DirectedTripletLoss(preset="official")])
def test_a_step_against_the_gradient_lowers_the_loss(term: DirectedTripletLoss) -> None:
    gt, sr, positive, negative = batch()
    gt.requires_grad_()
    sr.requires_grad_()
    loss = term(gt, sr, positive, negative)
    loss.backward()
    assert term(gt - 1e-3 * gt.grad, sr - 1e-3 * sr.grad, positive, negative) < loss


def test_descent_pushes_generated_points_a_margin_away() -> None:
    gt, sr, _, _ = batch(rows=8)
    points = torch.cat([gt, sr]).requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)
    term = DirectedTripletLoss(preset="paper")
    generator = torch.Generator().manual_seed(2)
    for _ in range(150):
        positive, negative = (torch.randperm(8, generator=generator) for _ in range(2))
        optimizer.zero_grad()
        term(points[:8], points[8:], positive, negative).backward()
        optimizer.step()
    real, fake = points[:8], points[8:]
    assert torch.cdist(real, fake).min() ** 2 > torch.cdist(real, real).max() ** 2 + 0.5


def test_health_by_hand() -> None:
    # Margins with gamma 0: 1, 2, 1; at margin -0.5 they are -0.5, 0.5, -0.5.
    found = DirectedTripletLoss(margin=-0.5, direction_weight=0.0, triplets="shuffle").health(GT, SR, SHIFT, KEEP)
    assert found["cos"].item() == pytest.approx(sum(COSINES) / 3)
    assert found["active"].item() == pytest.approx(1 / 3)
    # At margin -1 they are -1, 0, -1, and a hinge at 0 gives no gradient.
    still = DirectedTripletLoss(margin=-1.0, direction_weight=0.0, triplets="shuffle").health(GT, SR, SHIFT, KEEP)
    assert still["active"].item() == 0


def test_health_keeps_no_graph_and_counts_what_the_hinge_counts() -> None:
    gt, sr, positive, negative = batch(rows=16)
    gt.requires_grad_()
    found = DirectedTripletLoss(triplets="shuffle").health(gt, sr, positive, negative)
    margins, _ = triplet_margins(gt, sr, positive, negative)
    assert found["active"].item() == (margins > 0).sum().item() / 16
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cos_reduce": "sum"}, "cos_reduce: expected one of per_sample, batch_sum; got 'sum'"),
        ({"hinge": "Relu"}, "hinge: expected one of relu, softplus; got 'Relu'. Did you mean 'relu'"),
        ({"preset": "released"}, "preset: expected one of paper, official; got 'released'"),
        (
            {"preset": "paper", "cos_reduce": "batch_sum"},
            "preset 'paper' means cos_reduce = 'per_sample', but cos_reduce = 'batch_sum' was given",
        ),
        (
            {"preset": "official", "cos_reduce": "per_sample"},
            "preset 'official' means cos_reduce = 'batch_sum', but cos_reduce = 'per_sample' was given",
        ),
        (
            {"preset": "official", "hinge": "softplus"},
            "preset 'official' means hinge = 'relu', but hinge = 'softplus' was given",
        ),
    ],
)
def test_refuses_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DirectedTripletLoss(**options)


@pytest.mark.parametrize(
    ("gt", "sr", "positive", "negative", "message"),
    [
        (GT, SR[:2], SHIFT, KEEP, r"expected gt_embeddings and sr_embeddings of the same shape \(N, D\), got \(3, 2\)"),
        (GT[0], SR[0], SHIFT, KEEP, r"expected gt_embeddings and sr_embeddings of the same shape \(N, D\), got \(2,\)"),
        (GT[:1], SR[:1], KEEP[:1], KEEP[:1], "expected a batch of at least 2 embeddings, got 1; an anchor needs"),
        (GT, SR, SHIFT[:2], KEEP, r"expected positive_index of shape \(3,\) and type int64, got \(2,\)"),
        (
            GT,
            SR,
            SHIFT,
            KEEP.float(),
            r"expected negative_index of shape \(3,\) and type int64, got \(3,\) and torch.f",
        ),
        (GT.half(), SR.half(), SHIFT, KEEP, "expected gt_embeddings in float32 or float64, got torch.float16"),
    ],
)
def test_refuses_tensors(gt: Tensor, sr: Tensor, positive: Tensor, negative: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DirectedTripletLoss(triplets="shuffle")(gt, sr, positive, negative)


def test_all_triplets_are_those_of_every_shift_and_permutation() -> None:
    gt, sr, _, _ = batch(rows=4)
    margins, cosines = all_triplet_margins(gt, sr, 0.7, 0.3)
    assert margins.shape == cosines.shape == (4, 3, 4)
    for step in range(1, 4):
        for turn in range(4):
            positive, negative = torch.arange(4).roll(-step), torch.arange(4).roll(-turn)
            expected, cos = triplet_margins(gt, sr, positive, negative, 0.7, 0.3)
            rows = torch.arange(4)
            torch.testing.assert_close(margins[rows, step - 1, negative], expected)
            torch.testing.assert_close(cosines[rows, step - 1, negative], cos)


def test_all_triplets_have_the_mean_of_the_shuffled_ones() -> None:
    gt, sr, _, _ = batch(rows=4)
    rows = torch.arange(4)
    shuffled = [
        directed_triplet_loss(gt, sr, rows.roll(step), rows.roll(turn), 1.0, 0.1)
        for step in range(1, 4)
        for turn in range(4)
    ]
    loss = DirectedTripletLoss(direction_weight=0.1, triplets="all")(gt, sr, rows, rows)
    assert loss.item() == pytest.approx(sum(value.item() for value in shuffled) / len(shuffled))


def test_gradients_of_all_triplets() -> None:
    gt, sr, _, _ = batch(rows=3)
    term, rows = DirectedTripletLoss(direction_weight=0.5, hinge="softplus", triplets="all"), torch.arange(3)
    leaves = [e.requires_grad_() for e in (gt, sr)]
    assert torch.autograd.gradcheck(lambda a, b: term(a, b, rows, rows), leaves)


@pytest.mark.parametrize("hinge", ["relu", "softplus"])
@pytest.mark.parametrize("at_once", [2, 5, 6])
def test_large_batches_in_groups_of_anchors(hinge: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 1 anchor, and of 2 with one left over; the value and the gradients are those of the loop."""
    gt, sr, positive, negative = batch(rows=7)
    leaves = [e.requires_grad_() for e in (gt, sr)]
    term = DirectedTripletLoss(margin=0.6, direction_weight=0.3, hinge=hinge, triplets="all")
    signs = term.health(gt, sr, positive, negative)
    monkeypatch.setattr("mvmsr.losses.triplet._AT_ONCE", at_once)
    found = term(gt, sr, positive, negative)

    hinges = []
    for a, p, n in itertools.product(range(7), repeat=3):
        if a != p:
            to_p, to_n = gt[p] - gt[a], sr[n] - gt[a]
            cosine = torch.cosine_similarity(to_n, to_p, dim=0)
            value = to_p.square().sum() - to_n.square().sum() + 0.6 - 0.3 * cosine
            hinges.append(value.relu() if hinge == "relu" else torch.nn.functional.softplus(value))
    expected = torch.stack(hinges).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves))
    torch.testing.assert_close(term.health(gt, sr, positive, negative), signs)


def test_large_batches_take_no_more_memory_than_ordinary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does a pass make a larger tensor than a batch of 16 would, nor is one kept for the backward pass."""
    monkeypatch.setattr("mvmsr.losses.triplet._AT_ONCE", 16)
    made, kept = [], []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))
            return out

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    gt, sr, positive, negative = (t.requires_grad_(t.is_floating_point()) for t in batch(rows=48))
    with Watch():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = DirectedTripletLoss(triplets="all")(gt, sr, positive, negative)
        loss.backward()
    assert 0 < max(made) <= 16**3
    assert sum(kept) < 16**3


def test_all_triplets_of_equal_pictures_have_no_direction_and_finite_gradients() -> None:
    gt = torch.zeros(3, 2, requires_grad=True)
    margins, cosines = all_triplet_margins(gt, torch.zeros(3, 2))
    assert margins.tolist() == [[[1.0] * 3] * 2] * 3
    assert not cosines.any()
    margins.sum().backward()
    assert torch.isfinite(gt.grad).all()


def test_an_equal_positive_has_no_direction_to_learn() -> None:
    gt = torch.zeros(3, 2, requires_grad=True)
    cosines = all_triplet_margins(gt, torch.eye(3, 2))[1]
    cosines[0].sum().backward()
    assert not gt.grad.any()


def test_all_triplets_refuse_the_summed_cosine() -> None:
    with pytest.raises(ValueError, match="needs cos_reduce: per_sample"):
        DirectedTripletLoss(preset="official", triplets="all")
    with pytest.raises(ValueError, match="Did you mean 'all'"):
        DirectedTripletLoss(triplets="al")


@pytest.mark.parametrize("triplets", ["shuffle", "all"])
@pytest.mark.parametrize("hinge", ["relu", "softplus"])
def test_chance_is_the_value_of_coinciding_points(hinge: str, triplets: str) -> None:
    term, rows = DirectedTripletLoss(margin=0.7, hinge=hinge, triplets=triplets), torch.arange(3)
    assert term.chance == pytest.approx(term(torch.ones(3, 2), torch.ones(3, 2), rows, rows).item())


def test_shuffled_positives_are_nearer_by_one_in_n() -> None:
    """The mean over all permutations, of which each keeps an index with probability 1/N."""
    gt, sr = torch.rand(4, 3, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64)
    rows = torch.arange(4)

    def mean(index: Sequence[int]) -> Tensor:
        # With sr at the origin and no margin, what is left of the negatives is the same for all.
        return triplet_margins(gt, sr, torch.tensor(index), rows, 0.0, 0.0)[0].mean() + gt.square().sum(1).mean()

    shuffled = torch.stack([mean(index) for index in itertools.permutations(range(4))]).mean()
    every = all_triplet_margins(gt, sr, 0.0, 0.0)[0].mean() + gt.square().sum(1).mean()
    assert shuffled.item() == pytest.approx((1 - 1 / 4) * every.item())
