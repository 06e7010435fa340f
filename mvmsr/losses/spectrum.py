"""How many directions a set of embeddings fills: eigenvalues of its distance matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from mvmsr.losses.geometry import check_embeddings


@torch.no_grad()
def distance_spectrum(embeddings: Tensor, count: int = 10) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of the normalised distance matrix of a set (N, D), under both usual normalisations.

    Embeddings that differ along one line alone have one large share and zeros; the more directions a metric network
    uses, the more equal the shares become.

    >>> _, shares = distance_spectrum(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), count=2)
    >>> shares
    tensor([0.5000, 0.5000], dtype=torch.float64)

    Args:
        embeddings: float32 or float64; they are centred and computed with in float64.
        count: how many eigenvalues.

    Returns:
        Two float64 tensors (count,) on the CPU, in descending order and filled up with zeros:
        the absolute eigenvalues of D / ||D||_F with D_ij = ||e_i - e_j||, whose squares sum to 1 over all N;
        the eigenvalues of the double-centred -1/2 J D^2 J over their sum, that is, the shares of variance.

    Raises:
        ValueError: see `check_embeddings`; `count` below 1.

    Source: Dai and Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, figure 5, which does not
        say how the matrix was normalised; I. Borg and P. Groenen, Modern Multidimensional Scaling, chapter 12.
    """
    check_embeddings(embeddings=embeddings)
    if count < 1:
        raise ValueError(f"count: expected a positive number of eigenvalues, got {count}")
    points = embeddings.detach().to("cpu", torch.float64)
    points = points - points.mean(dim=0)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    length = torch.linalg.matrix_norm(distances)
    magnitudes = torch.linalg.eigvalsh(distances).abs().sort(descending=True).values
    variances = torch.linalg.svdvals(points).square()
    tiny = torch.finfo(torch.float64).tiny
    normalised, shares = magnitudes / length.clamp(min=tiny), variances / variances.sum().clamp(min=tiny)
    return _first(normalised, count), _first(shares, count)


def _first(values: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(values[:count], (0, max(0, count - len(values))))
