"""Total variation: a penalty on differences between neighbouring pixels."""

from __future__ import annotations

from torch import Tensor

from mvmsr.losses.pixel import PixelReduction, check_reduction
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES


@LOSSES.register()
class WeightedTVLoss(Term):
    """Mean (or sum) of |differences| of sr's neighbours down the columns, plus that along the rows.

    Named as in BasicSR, whose element-wise weights nothing in its options files can set.

    Args:
        loss_weight: factor in the generator's objective.
        reduction: "mean" does not depend on the batch or picture size, "sum" grows with both.

    Source: Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992; theirs takes the
        length of the gradient, where this takes the sum of its two sides.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: PixelReduction = "mean") -> None:
        super().__init__(loss_weight)
        check_reduction(reduction)
        self.reduction: PixelReduction = reduction

    @property
    def is_mean_over_pictures(self) -> bool:
        """True for the mean, not for the sum."""
        return self.reduction == "mean"

    @property
    def grows_with_batch(self) -> bool:
        """True for the sum."""
        return self.reduction == "sum"

    def forward(self, sr: Tensor) -> Tensor:
        """The unweighted loss of pictures (N, C, H, W), at least 2 pixels on each side; a scalar."""
        down, along = sr.diff(dim=2).abs(), sr.diff(dim=3).abs()
        return down.mean() + along.mean() if self.reduction == "mean" else down.sum() + along.sum()
