"""What the generator minimises in the learned metric: matched pairs, centroids and diameters.

Source: Dai and Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, ICCV 2021, equations (1), (3);
released code at https://github.com/dzld00/pytorch-manifold-matching
"""

from __future__ import annotations

from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from mvmsr.losses.choices import from_preset, one_of
from mvmsr.losses.geometry import (
    centroid_distance,
    check_paired_embeddings,
    paired_distance,
    squared_distances,
    two_diameter,
)
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES

PairReduction = Literal["mean", "frobenius"]
Diameter = Literal["abs_diff", "frobenius_sq"]
ManifoldPreset = Literal["paper", "official"]

_PRESETS = {"paper": {"diameter": "abs_diff"}, "official": {"diameter": "frobenius_sq"}}


def pair_loss(sr_embeddings: Tensor, gt_embeddings: Tensor, reduction: PairReduction = "mean") -> Tensor:
    """Distance of every super-resolved picture from its own reference, in the learned metric; a scalar.

    >>> a, b = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [0.0, 12.0]])
    >>> pair_loss(a, b), pair_loss(a, b, reduction="frobenius")
    (tensor(8.5000), tensor(13.))

    Args:
        sr_embeddings, gt_embeddings: (N, D).
        reduction: "mean" of the N norms, whatever N is; "frobenius", the norm of the whole (N, D) difference, which
            is about sqrt(N) times larger.

    Raises:
        ValueError: unequal shapes, unknown reduction.
    """
    one_of("reduction", reduction, get_args(PairReduction))
    check_paired_embeddings(gt_embeddings, sr_embeddings)
    if reduction == "mean":
        return paired_distance(sr_embeddings, gt_embeddings)
    return torch.linalg.vector_norm(sr_embeddings - gt_embeddings)


def diameter_loss(gt_embeddings: Tensor, sr_embeddings: Tensor, diameter: Diameter = "abs_diff") -> Tensor:
    """How differently two batches are spread; a scalar.

    >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [8.0]])
    >>> diameter_loss(a, b), diameter_loss(a, b, "frobenius_sq")  # |3 - 2| / sqrt(2), sqrt(2) |9 - 4|
    (tensor(0.7071), tensor(7.0711))

    Args:
        gt_embeddings, sr_embeddings: (N, D), N >= 2.
        diameter: "abs_diff" is |diam_2(gt) - diam_2(sr)|, the paper's equation (1): in the units of the embeddings,
            whatever N is, blind to the order of the rows. "frobenius_sq" is the Frobenius norm of the difference
            of the two N x N matrices of squared distances, the released code: in squared units, growing as N, and
            comparing entry with entry, so that the rows of both should belong together.

    Raises:
        ValueError: unequal shapes, a single row, unknown diameter.
    """
    one_of("diameter", diameter, get_args(Diameter))
    check_paired_embeddings(gt_embeddings, sr_embeddings)
    if len(gt_embeddings) < 2:
        raise ValueError("expected a batch of at least 2 embeddings, got 1; a single point has no diameter to match")
    if diameter == "abs_diff":
        return (two_diameter(gt_embeddings) - two_diameter(sr_embeddings)).abs()
    difference = squared_distances(gt_embeddings, gt_embeddings) - squared_distances(sr_embeddings, sr_embeddings)
    return torch.linalg.vector_norm(difference)


@LOSSES.register()
class PairLoss(Term):
    """L_pair = || g(gt) - g(sr) || in the metric network's embedding; see `pair_loss`.

    Args:
        loss_weight: factor in the generator's objective (lambda_2 of equation (3), 1e-3 in the paper).
        reduction: "mean" of the norms over the batch, or "frobenius" norm of the batch.
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(self, loss_weight: float = 1.0, reduction: PairReduction = "mean") -> None:
        super().__init__(loss_weight)
        one_of("reduction", reduction, get_args(PairReduction))
        self.reduction: PairReduction = reduction

    @property
    def grows_with_batch(self) -> bool:
        """True for the norm of the whole batch."""
        return self.reduction == "frobenius"

    def forward(self, sr_embeddings: Tensor, gt_embeddings: Tensor) -> Tensor:
        """The unweighted loss of embeddings (N, D); a scalar."""
        return pair_loss(sr_embeddings, gt_embeddings, self.reduction)


@LOSSES.register()
class ManifoldMatchingLoss(Term):
    """L_MM = centroid_weight * d_c + diameter_weight * d_g, equation (1); see `centroid_distance`, `diameter_loss`.

    Args:
        loss_weight: factor in the generator's objective (lambda_3 of equation (3), 1e-3 in the paper).
        diameter: "abs_diff" (the default) or "frobenius_sq".
        diameter_weight: lambda of equation (1).
        centroid_weight: factor of the centroid distance; 0 matches diameters alone.
        preset: "paper" for `abs_diff`, "official" for `frobenius_sq`, which the released code computes instead.

    Raises:
        ValueError: unknown value, or a diameter that contradicts the preset.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        diameter: Diameter | None = None,
        diameter_weight: float = 1.0,
        centroid_weight: float = 1.0,
        preset: ManifoldPreset | None = None,
    ) -> None:
        super().__init__(loss_weight)
        if diameter is not None:
            one_of("diameter", diameter, get_args(Diameter))
        resolved = from_preset(preset, _PRESETS, {"diameter": diameter}, {"diameter": "abs_diff"})
        self.diameter = cast(Diameter, resolved["diameter"])
        self.diameter_weight = float(diameter_weight)
        self.centroid_weight = float(centroid_weight)

    @property
    def grows_with_batch(self) -> bool:
        """True for the distance matrices, whose difference grows as N."""
        return self.diameter == "frobenius_sq"

    def forward(self, sr_embeddings: Tensor, gt_embeddings: Tensor) -> Tensor:
        """The unweighted loss of embeddings (N, D), N >= 2; a scalar."""
        check_paired_embeddings(gt_embeddings, sr_embeddings)
        centroids = centroid_distance(gt_embeddings, sr_embeddings)
        diameters = diameter_loss(gt_embeddings, sr_embeddings, self.diameter)
        return self.centroid_weight * centroids + self.diameter_weight * diameters
