"""A metric of pyiqa as what a term judges by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mvmsr.hardware import autocast
from mvmsr.metrics.pyiqa_metric import check_name, compares, create
from mvmsr.registry import RegistryError

_PROBE = 256
"""Side of the pictures on which a metric is tried; large enough for all."""


class QualityJudge(nn.Module):
    """Images sr and gt (N, 3, H, W), nominally in [0, 1] -> losses (N,), in float32 whatever the run's precision.

    The loss is the score where lower is better, 1 - score where higher is.

    Args:
        metric: its name in pyiqa.
        device: where to compute.

    Raises:
        MissingWeights: pyiqa, a package that the metric uses, or its weights are not on this machine.
        ValueError: pyiqa has no such metric, it does not compare two images, or it has no gradient.
    """

    def __init__(self, metric: str, device: torch.device) -> None:
        super().__init__()
        try:
            check_name(metric)
        except RegistryError as error:
            raise ValueError(str(error)) from error
        if not compares(metric):
            raise ValueError(f"pyiqa's {metric} judges an image by itself; a loss needs one that compares, as lpips")
        network = create(metric, device, None)
        # Its own forward pass would take no gradient, refuse values outside of [0, 1], and have cuDNN choose its slow
        # algorithms.
        self.network: Any = network.net
        self.metric, self.lower_better = metric, bool(network.lower_better)
        self.device = device
        if not self._has_gradient():
            raise ValueError(f"pyiqa's {metric} has no gradient, so nothing can be learnt from it; lpips and dists do")

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The losses; errors are the metric's own."""
        with autocast(self.device, "32"):
            scores = self.network(sr.float(), gt.float())
        scores = scores[0] if isinstance(scores, tuple) else scores
        losses = scores if self.lower_better else 1 - scores
        return losses.float().reshape(len(sr), -1).mean(1)

    def _has_gradient(self) -> bool:
        sr, gt = torch.rand(2, 1, 3, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0)).to(self.device)
        loss = self(sr.requires_grad_(), gt)
        return loss.requires_grad and torch.autograd.grad(loss.sum(), sr, allow_unused=True)[0] is not None
