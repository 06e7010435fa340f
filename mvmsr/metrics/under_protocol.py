"""A metric by another protocol than the rest of a run: PSNR on luma beside PSNR on RGB."""

from __future__ import annotations

import numpy as np

from mvmsr.metrics.metric import FidelityMetric, Metric
from mvmsr.metrics.protocol import Protocol, make_protocol


class UnderProtocol(Metric):
    """`psnr` or `ssim` under a protocol of its own, whatever the others are measured by.

    Args:
        name: the key of its scores.
        metric: what is measured.
        protocol: a protocol's name.
        crop_border: pixels left out at each side; None takes the protocol's own.
    """

    def __init__(self, name: str, metric: FidelityMetric, protocol: str, crop_border: int | None) -> None:
        self.name = name
        self.metric = metric
        self.higher_is_better = metric.higher_is_better
        self.decimals = metric.decimals
        self.protocol, self.crop_border = protocol, crop_border

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The score under its own protocol at the scale of `protocol`."""
        return self.metric(sr, gt, self._own(protocol))

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size cannot be scored under its own protocol."""
        return self.metric.limitation(height, width, self._own(protocol))

    def _own(self, protocol: Protocol) -> Protocol:
        return make_protocol(self.protocol, protocol.scale, self.crop_border)
