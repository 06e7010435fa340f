"""ST-LPIPS: LPIPS whose networks hardly notice that a picture moved by a pixel.

Its authors' package carries the whole trained networks, so that it works where nothing can be downloaded. Values are
those of the package; they are other quantities than LPIPS.

Source: Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022: every stride is a stride of 1
    followed by a blur of [1, 2, 1] that keeps each second value, with wider borders (section 4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mvmsr.hardware import pick_device
from mvmsr.metrics.lpips_metric import to_signed
from mvmsr.metrics.metric import Metric, same_size
from mvmsr.metrics.protocol import Protocol
from mvmsr.metrics.st_lpips_network import load_network
from mvmsr.pretrained import locate
from mvmsr.registry import METRICS

_SMALLEST_SIDE = {"alex": 21, "vgg": 18}
"""Below these sides a border is wider than what it mirrors."""


@METRICS.register("st_lpips")
class StLpips(Metric):
    """ST-LPIPS of whole RGB pictures in [-1, 1]; lower is better, equal pictures give 0.

    The protocol's colour and border do not apply.

    Args:
        net: the network; `alex` is the authors' default.
        device: where to compute; values on a GPU differ from the CPU's in the sixth digit.
        weights_dir: where to look for the network's weights first.

    Raises:
        MissingWeights: the network's weights are not on this machine.
        ValueError: an unknown net, or weights of another network.
    """

    higher_is_better = False

    def __init__(
        self, net: Literal["alex", "vgg"] = "alex", device: str = "auto", weights_dir: str | Path | None = None
    ) -> None:
        if net not in _SMALLEST_SIDE:
            raise ValueError(f"st_lpips: net is {net!r}; use one of {', '.join(_SMALLEST_SIDE)}")
        self.name = "st_lpips" if net == "alex" else f"st_lpips_{net}"
        self.net = net
        weights = locate(f"st_lpips_{net}", weights_dir=weights_dir)
        self.device = pick_device(device)
        self.network = load_network(net, weights).to(self.device)

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """ST-LPIPS of two pictures (H, W, 3) uint8; nan where `limitation` gives a reason.

        Raises:
            ValueError: `gt` is missing or of another size.
        """
        sr, gt = same_size(self.name, sr, gt)
        if self.limitation(sr.shape[0], sr.shape[1], protocol) is not None:
            return float("nan")
        with torch.inference_mode():
            return float(self.network(to_signed(sr).to(self.device), to_signed(gt).to(self.device)))

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size has no ST-LPIPS."""
        smallest = _SMALLEST_SIDE[self.net]
        if min(height, width) < smallest:
            return f"ST-LPIPS ({self.net}) needs {smallest} px a side; the picture is {width}x{height}"
        return None
