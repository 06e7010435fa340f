"""Distances of embedding sets: values by hand and by loops, invariances, gradients, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mvmsr.losses.geometry import (
    centroid,
    centroid_distance,
    hausdorff_distance,
    health,
    paired_distance,
    squared_distances,
    two_diameter,
)

DISTANCES = [centroid_distance, hausdorff_distance, paired_distance]


def sets(seed: int = 0, rows: int = 6, width: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rows, width, generator=generator, dtype=dtype)
    b = 0.5 * torch.randn(rows, width, generator=generator, dtype=dtype) + 0.7
    return a, b


def distance(x: list[float], y: list[float]) -> float:
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(x, y, strict=True)))


def naive(a: Tensor, b: Tensor) -> dict[str, float]:
    """Every distance from its definition, with loops over points."""
    p, q = a.tolist(), b.tolist()

    def mean(points: list[list[float]]) -> list[float]:
        return [sum(column) / len(points) for column in zip(*points, strict=True)]

    def diameter(points: list[list[float]]) -> float:
        return math.sqrt(sum(distance(x, y) ** 2 for x in points for y in points)) / len(points)

    return {
        "d_p": sum(distance(x, y) for x, y in zip(p, q, strict=True)) / len(p),
        "d_c": distance(mean(p), mean(q)),
        "d_g": abs(diameter(p) - diameter(q)),
        "d_h": max(max(min(distance(x, y) for y in q) for x in p), max(min(distance(x, y) for x in p) for y in q)),
        "diam2_gt": diameter(p),
        "diam2_sr": diameter(q),
        "p_dist": math.sqrt(
            sum(
                (distance(p[i], p[j]) ** 2 - distance(q[i], q[j]) ** 2) ** 2
                for i in range(len(p))
                for j in range(len(p))
            )
        ),
    }


def rotation(width: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]


def test_values_by_hand() -> None:
    square = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    assert centroid(square).tolist() == [1.0, 1.0]
    # From any corner: 0, 4, 4, 8.
    assert squared_distances(square, square)[0].tolist() == [0.0, 4.0, 8.0, 4.0]
    assert two_diameter(square).item() == pytest.approx(2.0)
    assert centroid_distance(square, square + torch.tensor([3.0, 4.0])).item() == pytest.approx(5.0)
    assert paired_distance(square, square + torch.tensor([3.0, 4.0])).item() == pytest.approx(5.0)
    # (1, 1) is sqrt(2) from every corner; the far point is 10 - 2 = 8 from its nearest corner.
    assert hausdorff_distance(square, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(math.sqrt(2))
    assert hausdorff_distance(square, torch.tensor([[1.0, 1.0], [10.0, 2.0]])).item() == pytest.approx(8.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rows", "width"), [(1, 4), (2, 1), (9, 3)])
def test_health_equals_loops(seed: int, rows: int, width: int) -> None:
    a, b = sets(seed, rows, width)
    found = health(a, b)
    assert {k: v.item() for k, v in found.items()} == pytest.approx(naive(a, b), rel=1e-6, abs=2e-6)
    swapped = {k: v.item() for k, v in health(b, a).items()}  # the wider set comes second
    assert swapped == pytest.approx(naive(b, a), rel=1e-6, abs=2e-6)
    assert all(value.shape == () and not value.requires_grad for value in found.values())


def test_health_keeps_no_graph() -> None:
    a, b = (x.requires_grad_() for x in sets())
    assert not any(value.requires_grad for value in health(a, b).values())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("rows_a", "rows_b", "width"), [(1, 1, 1), (1, 6, 3), (7, 2, 4), (5, 5, 1)])
def test_squared_distances_equal_loops(seed: int, rows_a: int, rows_b: int, width: int) -> None:
    a, b = sets(seed, rows_a, width)[0], sets(seed, rows_b, width)[1]
    expected = [[distance(x, y) ** 2 for y in b.tolist()] for x in a.tolist()]
    torch.testing.assert_close(squared_distances(a, b), torch.tensor(expected, dtype=torch.float64))


def test_squared_distances_survive_a_large_common_offset() -> None:
    """Spread 0.01 around 100, as a young metric network gives: single-precision squares would lose all digits."""
    a = (100 + 0.01 * sets()[0]).float()
    expected = (a.double()[:, None] - a.double()[None]).square().sum(dim=2)
    found = squared_distances(a, a)
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-12)


def test_squared_distances_survive_an_offset_that_fills_the_precision_of_their_squares() -> None:
    a, offset = sets()[0], 2.0**20
    torch.testing.assert_close(squared_distances(a + offset, a + offset), squared_distances(a, a), rtol=0, atol=1e-8)


def test_squared_distances_are_never_negative() -> None:
    """Of a point from itself, rounding leaves about -1e-15 where the matrix product sums in another order."""
    a = sets(rows=64, width=50)[0]
    assert (squared_distances(a, a) >= 0).all()


def test_squared_distances_are_exact_under_autocast() -> None:
    a, b = sets(dtype=torch.float32)
    plain = squared_distances(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(squared_distances(a, b), plain)


def test_hausdorff_equals_scipy() -> None:
    directed = pytest.importorskip("scipy.spatial.distance").directed_hausdorff
    a, b = sets(rows=20)
    expected = max(directed(a.numpy(), b.numpy())[0], directed(b.numpy(), a.numpy())[0])
    assert hausdorff_distance(a, b).item() == pytest.approx(expected, rel=1e-12)


def test_hausdorff_survives_a_large_common_offset() -> None:
    """For more than 25 points PyTorch's distances are by default made of products, which here lose all digits."""
    a, b = (100 + 0.01 * x.float() for x in sets(rows=40))
    assert hausdorff_distance(a, b).item() == pytest.approx(hausdorff_distance(a.double(), b.double()).item(), rel=1e-4)


@pytest.mark.parametrize("name", ["d_p", "d_c", "d_g", "d_h", "diam2_gt", "diam2_sr"])
def test_invariances_and_scale(name: str) -> None:
    a, b = sets()
    value = health(a, b)[name].item()
    shift = torch.tensor([4.0, -2.0, 9.0], dtype=torch.float64)
    turn = rotation(3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert health(a + shift, b + shift)[name].item() == pytest.approx(value, rel=1e-9)
    assert health(a @ turn, b @ turn)[name].item() == pytest.approx(value, rel=1e-9)
    assert health(a[order], b[order])[name].item() == pytest.approx(value, rel=1e-9)
    assert health(3 * a, 3 * b)[name].item() == pytest.approx(3 * value, rel=1e-9)
    assert health(torch.cat([a, a]), torch.cat([b, b]))[name].item() == pytest.approx(value, rel=1e-9)


def test_only_the_paired_distance_sees_the_order() -> None:
    a, b = sets()
    before, after = health(a, b), health(a, b.flip(0))
    for name in ("d_c", "d_g", "d_h", "diam2_gt", "diam2_sr"):
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-12)
    assert after["d_p"].item() != pytest.approx(before["d_p"].item(), rel=1e-3)


def test_equal_sets_are_at_distance_zero() -> None:
    a, _ = sets()
    found = health(a, a)
    assert [found[k].item() for k in ("d_p", "d_c", "d_g", "d_h")] == [0.0, 0.0, 0.0, 0.0]
    assert centroid_distance(a, a.flip(0)).item() == pytest.approx(0.0, abs=1e-12)
    assert hausdorff_distance(a, a.flip(0)).item() == 0.0


def test_diameter_of_a_sample_approaches_that_of_the_law() -> None:
    """Independent unit normals in R^D: mean squared distance 2D (1 - 1/N) over all ordered pairs."""
    generator = torch.Generator().manual_seed(1)
    samples = [torch.randn(8, 16, generator=generator, dtype=torch.float64) for _ in range(400)]
    mean_square = sum(two_diameter(s).item() ** 2 for s in samples) / len(samples)
    assert mean_square == pytest.approx(2 * 16 * (1 - 1 / 8), rel=0.02)


@pytest.mark.parametrize("function", [*DISTANCES, squared_distances])
def test_gradient(function) -> None:
    a, b = (x.requires_grad_() for x in sets(rows=4))
    assert torch.autograd.gradcheck(function, (a, b))


def test_gradient_of_the_diameter() -> None:
    a = sets(rows=4)[0].requires_grad_()
    assert torch.autograd.gradcheck(two_diameter, (a,))


@pytest.mark.parametrize("function", [*DISTANCES, squared_distances])
def test_gradient_where_sets_coincide(function) -> None:
    a = sets(rows=4)[0]
    a, b = a.clone().requires_grad_(), a.clone().requires_grad_()
    grads = torch.autograd.grad(function(a, b).sum(), (a, b))
    assert all(torch.isfinite(g).all() for g in grads)


def test_gradient_where_all_points_are_one() -> None:
    a = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    assert two_diameter(a).item() == pytest.approx(1e-6)
    assert torch.autograd.gradcheck(two_diameter, (a,), eps=1e-8, atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: squared_distances(x, x), (a,))


@pytest.mark.parametrize("function", DISTANCES)
def test_a_step_against_the_gradient_lowers_the_distance(function) -> None:
    a, b = sets()
    b.requires_grad_()
    value = function(a, b)
    value.backward()
    assert function(a, b - 0.01 * b.grad) < value


@pytest.mark.parametrize("function", [centroid_distance, hausdorff_distance, squared_distances])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3), torch.zeros(3, 1), r"expected a of shape \(N, D\) with N, D > 0, got \(3,\)"),
        (torch.zeros(3, 2), torch.zeros(0, 2), r"expected b of shape \(N, D\) with N, D > 0, got \(0, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 4), r"of the same D, got \(3, 2\) and \(3, 4\)"),
        (
            torch.zeros(3, 2).half(),
            torch.zeros(3, 2),
            r"expected a in float32 or float64, got torch.float16.*\.float\(",
        ),
    ],
)
def test_refuses_sets(function, a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(a, b)


@pytest.mark.parametrize("function", [paired_distance, health])
@pytest.mark.parametrize(("left", "right"), [((3, 2), (4, 2)), ((3, 2), (3, 1)), ((3,), (3,)), ((2, 3, 1), (2, 3, 1))])
def test_refuses_sets_that_are_no_pairs(function, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    message = r"expected gt_embeddings and sr_embeddings of the same shape \(N, D\), got \("
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(left), torch.zeros(right))
