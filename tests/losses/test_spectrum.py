"""Eigenvalues of distance matrices, by hand and against their definition."""

import pytest
import torch

from mvmsr.losses.spectrum import distance_spectrum


def test_two_points_by_hand():
    # D = [[0, 5], [5, 0]], of norm sqrt(50) and eigenvalues +5 and -5.
    magnitudes, shares = distance_spectrum(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), count=3)
    torch.testing.assert_close(magnitudes, torch.tensor([0.5**0.5, 0.5**0.5, 0], dtype=torch.float64))
    torch.testing.assert_close(shares, torch.tensor([1.0, 0, 0], dtype=torch.float64))


def test_the_definition_with_matrices():
    points = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    distances = torch.cdist(points, points)
    centre = torch.eye(40, dtype=torch.float64) - 1 / 40
    gram = -0.5 * centre @ distances.square() @ centre
    eigenvalues = torch.linalg.eigvalsh(gram).flip(0)[:10]
    magnitudes, shares = distance_spectrum(points)
    torch.testing.assert_close(shares, (eigenvalues / gram.trace()).clamp(min=0), atol=1e-12, rtol=1e-9)
    by_size = torch.linalg.eigvals(distances / distances.norm()).abs().sort(descending=True).values
    torch.testing.assert_close(magnitudes, by_size[:10])


def test_scale_position_and_order_do_not_matter():
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    moved = 7 * points.flip(0) + 100
    for a, b in zip(distance_spectrum(points), distance_spectrum(moved), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_set_that_is_one_point_has_no_eigenvalues():
    for values in distance_spectrum(torch.ones(5, 3)):
        assert values.tolist() == [0] * 10


@pytest.mark.parametrize(("count", "shape", "message"), [(0, (3, 2), "count"), (2, (3,), "shape")])
def test_what_is_refused(count, shape, message):
    with pytest.raises(ValueError, match=message):
        distance_spectrum(torch.zeros(shape), count)
