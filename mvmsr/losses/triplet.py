"""What the metric network minimises: real pictures close to each other, generated ones a margin away.

Source: Dai and Hang, Manifold Matching via Deep Metric Learning for Generative Modeling, ICCV 2021, equation (2), after
Mohan et al., Moving in the Right Direction: A Regularization for Deep Metric Learning, CVPR 2020;
released code at https://github.com/dzld00/pytorch-manifold-matching
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mvmsr.losses.choices import from_preset, one_of
from mvmsr.losses.geometry import check_paired_embeddings
from mvmsr.losses.term import Objective, Term
from mvmsr.registry import LOSSES

CosReduce = Literal["per_sample", "batch_sum"]
Hinge = Literal["relu", "softplus"]
Triplets = Literal["shuffle", "all"]
TripletPreset = Literal["paper", "official"]

_COS_EPS = 1e-6
"""Norms below this count as this in the cosine, as in the released code."""

_EVERY = slice(None)

_AT_ONCE = 256
"""The largest batch whose triplets are all in memory at once."""

_PRESETS = {
    "paper": {"cos_reduce": "per_sample", "hinge": "relu"},
    "official": {"cos_reduce": "batch_sum", "hinge": "relu"},
}


def direction_cosine(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """cos(negative - anchor, positive - anchor) of embeddings (N, D), in [-1, 1]; shape (N,).

    Where one of the two differences is exactly zero (a permutation that keeps an index makes an anchor its own
    positive) the cosine is 0 and so is its gradient.

    >>> direction_cosine(torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[3.0, 3.0]] * 2))
    tensor([0.7071, 0.0000])
    """
    return (_directions(negative - anchor) * _directions(positive - anchor)).sum(dim=1)


def _directions(differences: Tensor) -> Tensor:
    """Vectors (..., D) over their norms; zero vectors stay zero and get no gradient.

    A gradient would cancel between an anchor and its identical positive in theory, but leaves rounding errors.
    """
    squares = differences.square().sum(dim=-1, keepdim=True)
    is_zero = squares == 0
    lengths = torch.where(is_zero, torch.ones_like(squares), squares).sqrt().clamp(min=_COS_EPS)
    return torch.where(is_zero, torch.zeros_like(differences), differences / lengths)


def triplet_margins(
    gt_embeddings: Tensor,
    sr_embeddings: Tensor,
    positive_index: Tensor,
    negative_index: Tensor,
    margin: float = 1.0,
    direction_weight: float = 0.01,
    cos_reduce: CosReduce = "per_sample",
) -> tuple[Tensor, Tensor]:
    """What goes into each triplet's hinge, and each triplet's cosine; two tensors (N,).

    With anchor a_i = gt[i], positive p_i = gt[positive_index[i]], negative n_i = sr[negative_index[i]]:
    ||a_i - p_i||^2 - ||a_i - n_i||^2 + margin - direction_weight * cos(n_i - a_i, p_i - a_i). With
    `cos_reduce="batch_sum"` every triplet gets the sum of all N cosines in place of its own.

    Raises:
        ValueError: embeddings of unequal shapes or a single row, indices not int64 of shape (N,), unknown cos_reduce.
    """
    one_of("cos_reduce", cos_reduce, get_args(CosReduce))
    rows = _check_rows(gt_embeddings, sr_embeddings)
    for name, index in (("positive_index", positive_index), ("negative_index", negative_index)):
        if index.shape != (rows,) or index.dtype != torch.int64:
            raise ValueError(
                f"expected {name} of shape ({rows},) and type int64, got {tuple(index.shape)} and {index.dtype}"
            )
    positive, negative = gt_embeddings[positive_index], sr_embeddings[negative_index]
    cosines = direction_cosine(gt_embeddings, positive, negative)
    distance_positive = (gt_embeddings - positive).square().sum(dim=1)
    distance_negative = (gt_embeddings - negative).square().sum(dim=1)
    direction = cosines if cos_reduce == "per_sample" else cosines.sum()
    return distance_positive - distance_negative + margin - direction_weight * direction, cosines


def all_triplet_margins(
    gt_embeddings: Tensor,
    sr_embeddings: Tensor,
    margin: float = 1.0,
    direction_weight: float = 0.01,
    anchors: slice = _EVERY,
) -> tuple[Tensor, Tensor]:
    """`triplet_margins` of every anchor with every other gt as positive and every sr as negative; (N, N - 1, N) each.

    Their mean is what `triplet_margins` gives on average over permutations that keep no index, without their variance.

    Args:
        anchors: the rows of gt that are anchors; with A of them the results are (A, N - 1, N).

    Raises:
        ValueError: embeddings of unequal shapes or a single row.
    """
    rows = _check_rows(gt_embeddings, sr_embeddings)
    index = torch.arange(rows, device=gt_embeddings.device)
    others = (index[anchors, None] + index[1:]) % rows
    to_positive = gt_embeddings[others] - gt_embeddings[anchors, None]  # A, N - 1, D
    to_negative = sr_embeddings[None] - gt_embeddings[anchors, None]  # A, N, D
    cosines = _directions(to_positive) @ _directions(to_negative).mT
    distance_positive, distance_negative = (d.square().sum(dim=2) for d in (to_positive, to_negative))
    return distance_positive[..., None] - distance_negative[:, None] + margin - direction_weight * cosines, cosines


def mean_of_all_triplets(
    measure: Callable[[Tensor, Tensor], Tensor],
    gt_embeddings: Tensor,
    sr_embeddings: Tensor,
    margin: float = 1.0,
    direction_weight: float = 0.01,
) -> Tensor:
    """The mean of `measure(margins, cosines)` over the triplets of `all_triplet_margins`; a scalar.

    A batch of more than 256 takes about the memory of one of 256: anchors are taken in groups, and what a group's
    gradient needs is computed again in the backward pass. The mean and its gradient differ by rounding only.

    Args:
        measure: of each triplet by itself; returns a tensor of the shape of its two.

    Raises:
        ValueError: embeddings of unequal shapes or a single row.
    """
    rows = _check_rows(gt_embeddings, sr_embeddings)

    def values(anchors: slice) -> Tensor:
        return measure(*all_triplet_margins(gt_embeddings, sr_embeddings, margin, direction_weight, anchors))

    if rows <= _AT_ONCE:
        return values(_EVERY).mean()
    group = max(1, _AT_ONCE**3 // rows**2)
    totals = [
        checkpoint(lambda anchors: values(anchors).sum(), slice(k, k + group), use_reentrant=False)
        for k in range(0, rows, group)
    ]
    return torch.stack(totals).sum() / (rows * (rows - 1) * rows)


def _check_rows(gt_embeddings: Tensor, sr_embeddings: Tensor) -> int:
    check_paired_embeddings(gt_embeddings, sr_embeddings)
    if len(gt_embeddings) < 2:
        raise ValueError("expected a batch of at least 2 embeddings, got 1; an anchor needs another point as positive")
    return len(gt_embeddings)


@LOSSES.register()
class DirectedTripletLoss(Term):
    """L_apn, equation (2): the metric network's triplet loss with a direction regulariser.

    The mean of hinge(||a - p||^2 - ||a - n||^2 + margin - direction_weight * cos(n - a, p - a)), where anchors a and
    positives p are gt's embeddings and negatives n sr's.

    >>> gt, sr = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [3.0]])
    >>> swap, keep = torch.tensor([1, 0]), torch.tensor([0, 1])
    >>> loss = DirectedTripletLoss(direction_weight=0.5, triplets="shuffle")
    >>> loss(gt, sr, swap, keep)  # relu(1 - .25 + 1 - .5), relu(1 - 4 + 1 + .5)
    tensor(0.6250)

    Args:
        loss_weight: factor in the metric network's objective.
        margin: in squared units of the embeddings (the paper does not say; 1 in the released code).
        direction_weight: gamma; 1e-2 in the paper.
        cos_reduce: "per_sample" (the default), the paper's equation, or "batch_sum", the released code: while every
            hinge is active its regulariser has N times the gradient.
        hinge: "relu" (the default), or "softplus", which never stops pushing.
        triplets: "all" (the default) takes every triplet of the batch whose positive is another picture: the N
            embeddings are computed anyway, and N * (N - 1) * N hinges cost nothing beside them. "shuffle" makes one
            triplet of every anchor, by random permutations, as in the released code (the paper does not say), and
            learns later; it is the default with a preset, and with `batch_sum`. The mean of "all" is that of
            "shuffle" given that no index is kept; a permutation keeps one with probability 1/N, so that under
            "shuffle" the mean of ||a - p||^2 is (1 - 1/N) times as large.
        preset: "paper" for `per_sample` and `relu`, "official" for `batch_sum` and `relu` as in the released code.

    Raises:
        ValueError: unknown value, or one that contradicts the preset.
    """

    objective: ClassVar[Objective] = "metric_net"

    def __init__(
        self,
        loss_weight: float = 1.0,
        margin: float = 1.0,
        direction_weight: float = 0.01,
        cos_reduce: CosReduce | None = None,
        hinge: Hinge | None = None,
        triplets: Triplets | None = None,
        preset: TripletPreset | None = None,
    ) -> None:
        super().__init__(loss_weight)
        if cos_reduce is not None:
            one_of("cos_reduce", cos_reduce, get_args(CosReduce))
        if hinge is not None:
            one_of("hinge", hinge, get_args(Hinge))
        resolved = from_preset(preset, _PRESETS, {"cos_reduce": cos_reduce, "hinge": hinge}, _PRESETS["paper"])
        self.margin = float(margin)
        self.direction_weight = float(direction_weight)
        self.cos_reduce = cast(CosReduce, resolved["cos_reduce"])
        self.hinge = cast(Hinge, resolved["hinge"])
        if triplets is None:
            triplets = "all" if preset is None and self.cos_reduce == "per_sample" else "shuffle"
        self.triplets = cast(Triplets, one_of("triplets", triplets, get_args(Triplets)))
        if self.triplets == "all" and self.cos_reduce == "batch_sum":
            raise ValueError(
                "triplets: all needs cos_reduce: per_sample (or preset: paper); a sum of all cosines would drown "
                "the distances"
            )

    @property
    def chance(self) -> float:
        """The loss where all embeddings coincide: the hinge of the margin."""
        return float(self._hinges(torch.tensor(self.margin)))

    def forward(
        self, gt_embeddings: Tensor, sr_embeddings: Tensor, positive_index: Tensor, negative_index: Tensor
    ) -> Tensor:
        """The unweighted loss of embeddings (N, D) under two permutations (N,), or of all triplets; a scalar."""
        tensors = gt_embeddings, sr_embeddings, positive_index, negative_index
        return self._mean(lambda margins, _: self._hinges(margins), *tensors)

    @torch.no_grad()
    def health(
        self, gt_embeddings: Tensor, sr_embeddings: Tensor, positive_index: Tensor, negative_index: Tensor
    ) -> dict[str, Tensor]:
        """Signs of the metric network's state, without gradient.

        Returns:
            Scalars on the embeddings' device: `cos`, the mean cosine in [-1, 1], and `active`, the share of triplets
            that violate the margin, in [0, 1]. At 0 a relu hinge gives the metric network no gradient at all.
        """
        tensors = gt_embeddings, sr_embeddings, positive_index, negative_index
        return {
            "cos": self._mean(lambda _, cosines: cosines, *tensors),
            "active": self._mean(lambda margins, _: (margins > 0).to(margins.dtype), *tensors),
        }

    def _hinges(self, margins: Tensor) -> Tensor:
        return F.relu(margins) if self.hinge == "relu" else F.softplus(margins)

    def _mean(
        self,
        measure: Callable[[Tensor, Tensor], Tensor],
        gt_embeddings: Tensor,
        sr_embeddings: Tensor,
        positive_index: Tensor,
        negative_index: Tensor,
    ) -> Tensor:
        """The mean of `measure(margins, cosines)` over the triplets."""
        embeddings, weights = (gt_embeddings, sr_embeddings), (self.margin, self.direction_weight)
        if self.triplets == "all":
            return mean_of_all_triplets(measure, *embeddings, *weights)
        return measure(*triplet_margins(*embeddings, positive_index, negative_index, *weights, self.cos_reduce)).mean()
