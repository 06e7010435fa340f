"""ST-LPIPS: LPIPS whose networks hardly notice that a picture moved by a pixel.

Its authors' package carries the whole trained networks, so that it works where nothing can be downloaded. Values are
those of the package; they are other quantities than LPIPS.

Source: Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022: every stride is a stride of 1
    followed by a blur of [1, 2, 1] that keeps each second value, with wider borders (section 4).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from mvmsr.hardware import pick_device
from mvmsr.metrics.lpips_metric import LpipsDistance
from mvmsr.metrics.st_lpips_network import load_network
from mvmsr.pretrained import locate
from mvmsr.registry import METRICS


@METRICS.register("st_lpips")
class StLpips(LpipsDistance):
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

    title = "ST-LPIPS"
    smallest_side: ClassVar = {"alex": 21, "vgg": 18}  # below, a border is wider than what it mirrors

    def __init__(
        self, net: Literal["alex", "vgg"] = "alex", device: str = "auto", weights_dir: str | Path | None = None
    ) -> None:
        if net not in self.smallest_side:
            raise ValueError(f"st_lpips: net is {net!r}; use one of {', '.join(self.smallest_side)}")
        self.name = "st_lpips" if net == "alex" else f"st_lpips_{net}"
        self.net = net
        weights = locate(f"st_lpips_{net}", weights_dir=weights_dir)
        self.device = pick_device(device)
        self.network = load_network(net, weights).to(self.device)
