"""Whether a result, made small again, is the picture it was made from."""

from __future__ import annotations

import numpy as np

from mvmsr.data.imresize import imresize
from mvmsr.metrics.metric import Metric, same_size
from mvmsr.metrics.protocol import Protocol
from mvmsr.metrics.psnr import psnr
from mvmsr.registry import METRICS


@METRICS.register("consistency")
class Consistency(Metric):
    """PSNR in dB, over RGB, of the downscaled result against the downscaled original; higher is better.

    Both are made small by MATLAB's bicubic kernel and rounded. Shifted colours and invented structure lower it;
    detail that the small picture cannot hold does not.
    """

    name = "consistency"
    higher_is_better = True
    decimals = 2

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The score of pictures (H, W, 3) uint8; infinite where both become the same small picture.

        Raises:
            ValueError: `gt` is missing or of another size.
        """
        sr, gt = same_size(self.name, sr, gt)
        return psnr(imresize(sr, scale=1 / protocol.scale), imresize(gt, scale=1 / protocol.scale))
