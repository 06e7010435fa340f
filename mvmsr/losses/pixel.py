"""Losses between a picture and its reference, pixel by pixel."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mvmsr.losses.choices import one_of
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES

PixelReduction = Literal["mean", "sum"]


def check_images(sr: Tensor, gt: Tensor) -> None:
    """Refuse pictures that cannot be compared.

    Raises:
        ValueError: the shapes are not equal, or not (N, C, H, W), or hold no pixel.
    """
    if sr.shape != gt.shape or sr.ndim != 4 or sr.numel() == 0:
        raise ValueError(
            f"expected sr and gt of the same shape (N, C, H, W), got {tuple(sr.shape)} and {tuple(gt.shape)}; "
            "check the generator's scale and the crops"
        )


def check_reduction(reduction: str) -> None:
    """Refuse a reduction that gives no scalar.

    Raises:
        ValueError: `reduction` is neither "mean" nor "sum".
    """
    if reduction == "none":
        raise ValueError("reduction: expected one of mean, sum; got 'none', which gives no scalar to minimise")
    one_of("reduction", reduction, get_args(PixelReduction))


def l1(sr: Tensor, gt: Tensor, reduction: PixelReduction = "mean") -> Tensor:
    """Mean (or sum) of |sr - gt| over all N*C*H*W elements.

    >>> l1(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]]))
    tensor(2.)

    Args:
        sr, gt: (N, C, H, W).
        reduction: "mean" does not depend on the batch or picture size, "sum" grows with both.

    Raises:
        ValueError: unequal shapes, unknown reduction.
    """
    check_reduction(reduction)
    check_images(sr, gt)
    return F.l1_loss(sr, gt, reduction=reduction)


def mse(sr: Tensor, gt: Tensor, reduction: PixelReduction = "mean") -> Tensor:
    """Mean (or sum) of (sr - gt)^2 over all N*C*H*W elements; arguments as for `l1`.

    >>> mse(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]]))
    tensor(5.)
    """
    check_reduction(reduction)
    check_images(sr, gt)
    return F.mse_loss(sr, gt, reduction=reduction)


def charbonnier(sr: Tensor, gt: Tensor, reduction: PixelReduction = "mean", eps: float = 1e-12) -> Tensor:
    """Mean (or sum) of sqrt((sr - gt)^2 + eps), an L1 that is smooth at zero; other arguments as for `l1`.

    >>> charbonnier(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0), eps=16.0)
    tensor(5.)

    Args:
        eps: positive; added under the root, so sqrt(eps) is the value at zero.

    Source: Lai et al., Deep Laplacian Pyramid Networks, https://arxiv.org/abs/1704.03915, section 3.2
    """
    check_reduction(reduction)
    check_images(sr, gt)
    distances = torch.sqrt((sr - gt).square() + eps)
    return distances.mean() if reduction == "mean" else distances.sum()


class ReducedTerm(Term):
    """A term of pixels that is their mean or their sum.

    Args:
        loss_weight: factor in the generator's objective.
        reduction: "mean" does not depend on the batch or picture size, "sum" grows with both.

    Raises:
        ValueError: unknown reduction.
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


class _PixelTerm(ReducedTerm):
    """A distance of sr's pixels from gt's."""

    needs_pairs: ClassVar[bool] = True
    compares_pixels: ClassVar[bool] = True


@LOSSES.register()
class L1Loss(_PixelTerm):
    """Mean absolute error of the super-resolved picture; see `l1`.

    Args:
        loss_weight: factor in the generator's objective.
        reduction: "mean" or "sum" over all elements.
    """

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The unweighted loss of pictures (N, C, H, W); a scalar."""
        return l1(sr, gt, self.reduction)


@LOSSES.register()
class MSELoss(_PixelTerm):
    """Mean squared error of the super-resolved picture; see `mse`.

    Args:
        loss_weight: factor in the generator's objective.
        reduction: "mean" or "sum" over all elements.
    """

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The unweighted loss of pictures (N, C, H, W); a scalar."""
        return mse(sr, gt, self.reduction)


@LOSSES.register()
class CharbonnierLoss(_PixelTerm):
    """Smoothed absolute error of the super-resolved picture; see `charbonnier`.

    Args:
        loss_weight: factor in the generator's objective.
        reduction: "mean" or "sum" over all elements.
        eps: positive number under the root, in squared image units.
    """

    def __init__(self, loss_weight: float = 1.0, reduction: PixelReduction = "mean", eps: float = 1e-12) -> None:
        super().__init__(loss_weight, reduction)
        if not eps > 0:
            raise ValueError(f"eps: expected a positive number, got {eps!r}; the root has no finite gradient at 0")
        self.eps = float(eps)

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The unweighted loss of pictures (N, C, H, W); a scalar."""
        return charbonnier(sr, gt, self.reduction, self.eps)
