"""A full-reference quality metric as a loss: LPIPS, DISTS, MS-SSIM and others of pyiqa."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from mvmsr.losses.pixel import check_images
from mvmsr.losses.term import JudgedTerm
from mvmsr.registry import LOSSES


@LOSSES.register()
class QualityLoss(JudgedTerm):
    """A metric of pyiqa between sr and gt: its score where lower is better, 1 - score where higher is.

    Args:
        extractor: the metric, images sr and gt (N, 3, H, W) to losses (N,); made from `extractor_spec`.
        metric: its name in pyiqa, as "lpips", "dists", "ms_ssim", "topiq_fr". It must compare two images, and be
            differentiable.
        loss_weight: factor in the generator's objective.

    Source: https://github.com/chaofengc/IQA-PyTorch, whose conventions apply
    """

    needs_pairs: ClassVar[bool] = True

    def __init__(self, extractor: nn.Module, metric: str, loss_weight: float = 1.0) -> None:
        super().__init__(extractor, loss_weight)

    @property
    def is_mean_over_pictures(self) -> bool:
        """True: every image is judged by itself."""
        return True

    @staticmethod
    def extractor_spec(metric: str) -> dict[str, Any]:
        """The metric that the loss needs, as an options entry with a `type`; `weights` is its name."""
        return {"type": "pyiqa", "weights": metric}

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The unweighted loss of images (N, 3, H, W), nominally in [0, 1]; a scalar, whatever N is.

        Raises:
            ValueError: unequal shapes.
        """
        check_images(sr, gt)
        return self.extractor(sr, gt).mean()
