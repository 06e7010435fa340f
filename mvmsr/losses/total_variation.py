"""Total variation: a penalty on differences between neighbouring pixels."""

from __future__ import annotations

from torch import Tensor

from mvmsr.losses.pixel import ReducedTerm
from mvmsr.registry import LOSSES


@LOSSES.register()
class WeightedTVLoss(ReducedTerm):
    """Mean (or sum) of |differences| of sr's neighbours down the columns, plus that along the rows.

    Named as in BasicSR, whose element-wise weights nothing in its options files can set.

    Args:
        loss_weight: factor in the generator's objective.
        reduction: "mean" does not depend on the batch or picture size, "sum" grows with both.

    Source: Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992; theirs takes the
        length of the gradient, where this takes the sum of its two sides.
    """

    def forward(self, sr: Tensor) -> Tensor:
        """The unweighted loss of pictures (N, C, H, W), at least 2 pixels on each side; a scalar."""
        down, along = sr.diff(dim=2).abs(), sr.diff(dim=3).abs()
        return down.mean() + along.mean() if self.reduction == "mean" else down.sum() + along.sum()
