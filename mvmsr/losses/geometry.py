"""Distances between sets of embeddings, and the size of a set.

Every function is differentiable, has finite gradients where points coincide, and allocates no more than (N, M)
elements for sets of N and M points. Embeddings are float32 or float64 of shape (N, D).
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-12
"""Added under the root of the 2-diameter, so that its gradient stays finite for a set that is one point."""


def check_embeddings(**named: Tensor) -> None:
    """Refuse tensors that are not sets of embeddings.

    Raises:
        ValueError: not (N, D) with N, D > 0, or neither float32 nor float64.
    """
    for name, embeddings in named.items():
        if embeddings.ndim != 2 or embeddings.numel() == 0:
            raise ValueError(f"expected {name} of shape (N, D) with N, D > 0, got {tuple(embeddings.shape)}")
        if embeddings.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"expected {name} in float32 or float64, got {embeddings.dtype}; squared distances lose their "
                "meaning in fewer bits: pass embeddings.float()"
            )


def check_paired_embeddings(gt_embeddings: Tensor, sr_embeddings: Tensor) -> None:
    """Refuse two sets of embeddings whose rows cannot be paired.

    Raises:
        ValueError: unequal shapes, or see `check_embeddings`.
    """
    if gt_embeddings.shape != sr_embeddings.shape or gt_embeddings.ndim != 2:
        raise ValueError(
            "expected gt_embeddings and sr_embeddings of the same shape (N, D), "
            f"got {tuple(gt_embeddings.shape)} and {tuple(sr_embeddings.shape)}"
        )
    check_embeddings(gt_embeddings=gt_embeddings, sr_embeddings=sr_embeddings)


def _check_same_width(a: Tensor, b: Tensor) -> None:
    check_embeddings(a=a, b=b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"expected a (N, D) and b (M, D) of the same D, got {tuple(a.shape)} and {tuple(b.shape)}")


def centroid(embeddings: Tensor) -> Tensor:
    """Mean of the points (N, D); shape (D,).

    >>> centroid(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    tensor([1., 2.])
    """
    check_embeddings(embeddings=embeddings)
    return embeddings.mean(dim=0)


def centroid_distance(a: Tensor, b: Tensor) -> Tensor:
    """d_c = || mean(a) - mean(b) ||_2 of sets (N, D) and (M, D); a scalar.

    >>> centroid_distance(torch.zeros(2, 2), torch.tensor([[3.0, 4.0]]))
    tensor(5.)

    Source: Dai and Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, equation (1).
    """
    _check_same_width(a, b)
    return torch.linalg.vector_norm(centroid(a) - centroid(b))


def two_diameter(embeddings: Tensor) -> Tensor:
    """diam_2 = sqrt(mean over all N^2 ordered pairs of ||s_i - s_j||^2) of a set (N, D); a scalar.

    Computed as sqrt(2/N sum_i ||s_i - mean||^2 + 1e-12), which needs no distance matrix. It scales with the
    embeddings. The pairs i = j count, so that the square of the value for N independent points is, on average,
    1 - 1/N times the mean squared distance of two; N has no other effect.

    >>> two_diameter(torch.tensor([[0.0], [2.0]]))  # sqrt((0 + 4 + 4 + 0) / 4)
    tensor(1.4142)

    Source: Dai and Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, definition 3.4, p = 2.
    """
    deviations = embeddings - centroid(embeddings)
    return torch.sqrt(2 * deviations.square().sum(dim=1).mean() + _EPS)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_j||^2 >= 0 of sets (N, D) and (M, D); shape (N, M).

    >>> squared_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]]))
    tensor([[9.],
            [4.]])
    """
    _check_same_width(a, b)
    # |a|^2 + |b|^2 - 2ab cancels nearly everything for close points. Distances do not change when both sets move, so
    # they are first moved to the origin; and where the device has double precision, which TF32 and autocast leave
    # alone, the product is taken in it.
    exact = torch.float32 if a.device.type == "mps" else torch.float64
    origin = a.detach().mean(dim=0)
    x, y = (a - origin).to(exact), (b - origin).to(exact)
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :] - 2 * (x @ y.T)
    return squares.clamp(min=0).to(a.dtype)


def hausdorff_distance(a: Tensor, b: Tensor) -> Tensor:
    """d_H = max(max_i min_j ||a_i - b_j||, max_j min_i ||a_i - b_j||) of sets (N, D) and (M, D); a scalar.

    >>> hausdorff_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [4.0]]))
    tensor(3.)

    Source: Dai and Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, section 4.
    """
    _check_same_width(a, b)
    distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.maximum(distances.amin(dim=1).max(), distances.amin(dim=0).max())


def paired_distance(a: Tensor, b: Tensor) -> Tensor:
    """d_p = mean_i ||a_i - b_i|| of two sets (N, D) in the same order; a scalar that does not depend on N.

    >>> paired_distance(torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor(3.)
    """
    check_paired_embeddings(a, b)
    return torch.linalg.vector_norm(a - b, dim=1).mean()


@torch.no_grad()
def health(gt_embeddings: Tensor, sr_embeddings: Tensor) -> dict[str, Tensor]:
    """The distances by which manifold matching is judged in training, without gradient.

    All are in the units of the embeddings and should be read against `diam2_gt`: while that is near zero the metric
    network has not yet spread the real pictures, and matching them weighs nothing.

    Args:
        gt_embeddings, sr_embeddings: (N, D), row i of both from the same picture.

    Returns:
        Scalars on the embeddings' device: `d_p` (pairs), `d_c` (centroids), `d_g` (2-diameters), `d_h` (Hausdorff),
        `diam2_gt`, `diam2_sr`; and `p_dist`, the Frobenius norm of the difference of the two matrices of squared
        distances, P of the released code, in squared units and growing as N.

    Raises:
        ValueError: unequal shapes, or see `check_embeddings`.
    """
    check_paired_embeddings(gt_embeddings, sr_embeddings)
    diameter_gt, diameter_sr = two_diameter(gt_embeddings), two_diameter(sr_embeddings)
    matrices = (squared_distances(points, points) for points in (gt_embeddings, sr_embeddings))
    return {
        "d_p": paired_distance(gt_embeddings, sr_embeddings),
        "d_c": centroid_distance(gt_embeddings, sr_embeddings),
        "d_g": (diameter_gt - diameter_sr).abs(),
        "d_h": hausdorff_distance(gt_embeddings, sr_embeddings),
        "diam2_gt": diameter_gt,
        "diam2_sr": diameter_sr,
        "p_dist": torch.linalg.vector_norm(torch.sub(*matrices)),
    }
