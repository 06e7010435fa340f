"""NatSR's natural manifold discriminator: what it learns by, and the loss of pictures that it finds unnatural."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvmsr.losses.adversarial import check_logits
from mvmsr.losses.term import JudgedTerm
from mvmsr.registry import LOSSES

_EPS = 1e-10
"""Keeps the logarithm finite where the discriminator is sure; it also ends the gradient there, as NatSR's does."""


def naturalness_loss(logits: Tensor) -> Tensor:
    """mean -log(sigmoid(logits) + 1e-10); a scalar, between about 0 and 23.

    >>> naturalness_loss(torch.tensor([[0.0]]))  # log 2
    tensor(0.6931)

    Raises:
        ValueError: no logits.

    Source: Soh et al., Natural and Realistic Single Image Super-Resolution with Explicit Natural Manifold
        Discrimination, CVPR 2019, equation (8); the constant is that of https://github.com/JWSoh/NatSR
    """
    check_logits(logits=logits)
    return -torch.log(torch.sigmoid(logits) + _EPS).mean()


def discrimination_loss(logits: Tensor, is_natural: Tensor) -> Tensor:
    """The discriminator's mean cross entropy: softplus(-l) of natural pictures, softplus(l) of others; a scalar.

    >>> discrimination_loss(torch.tensor([[0.0], [0.0]]), torch.tensor([[True], [False]]))  # log 2
    tensor(0.6931)

    Args:
        logits: (N, ...).
        is_natural: bool, of the same shape.

    Raises:
        ValueError: no logits, or unequal shapes.

    Source: Soh et al., CVPR 2019, section 3.2
    """
    check_logits(logits=logits)
    if is_natural.shape != logits.shape:
        raise ValueError(f"expected is_natural of shape {tuple(logits.shape)}, got {tuple(is_natural.shape)}")
    return F.binary_cross_entropy_with_logits(logits, is_natural.to(logits.dtype))


@LOSSES.register()
class NaturalnessLoss(JudgedTerm):
    """mean -log(sigmoid(NMD(sr)) + 1e-10), the naturalness loss of NatSR.

    Args:
        extractor: the natural manifold discriminator, images (N, 3, H, W) in [0, 1] to logits (N, 1), positive for
            natural pictures; made from `extractor_spec`. It is frozen and kept in evaluation mode.
        nmd_path: the weights of the extractor, as `mvmsr train-nmd` wrote (`experiments/nmd/weights/nmd.safetensors`).
        loss_weight: factor in the generator's objective; NatSR takes 1e-3.

    Source: Soh et al., CVPR 2019, equation (8)
    """

    def __init__(self, extractor: nn.Module, nmd_path: str, loss_weight: float = 1.0) -> None:
        super().__init__(extractor, loss_weight)

    @property
    def is_mean_over_pictures(self) -> bool:
        """True: the discriminator judges every picture by itself."""
        return True

    @staticmethod
    def extractor_spec(nmd_path: str) -> dict[str, Any]:
        """The network that the loss needs, as an options entry with a `type` and its `weights`."""
        return {"type": "NMD", "weights": nmd_path}

    def forward(self, sr: Tensor) -> Tensor:
        """The unweighted loss of pictures (N, 3, H, W) in [0, 1]; a scalar."""
        return naturalness_loss(self.extractor(sr).float())
