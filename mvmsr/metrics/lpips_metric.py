"""LPIPS 0.1: distance of two pictures in the features of an ImageNet network.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018; the network
    and its linear layers are those of the authors' `lpips` package.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mvmsr.hardware import full_float32, pick_device
from mvmsr.metrics.metric import Metric, same_size
from mvmsr.metrics.protocol import Protocol
from mvmsr.pretrained import locate
from mvmsr.registry import METRICS

_TRUNKS = {"alex": "alexnet", "vgg": "vgg16"}


class LpipsDistance(Metric):
    """What LPIPS and ST-LPIPS share: a network's distance of whole RGB pictures in [-1, 1].

    Subclasses set `net`, `device` and `network`.
    """

    higher_is_better = False
    title: ClassVar[str]
    """Its name in messages."""
    smallest_side: ClassVar[dict[str, int]]
    """The smallest side of a picture that a net can score, by net."""
    net: str
    device: torch.device
    network: nn.Module

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The distance of two pictures (H, W, 3) uint8; nan where `limitation` gives a reason.

        Raises:
            ValueError: `gt` is missing or of another size.
        """
        sr, gt = same_size(self.name, sr, gt)
        if self.limitation(sr.shape[0], sr.shape[1], protocol) is not None:
            return float("nan")
        with torch.inference_mode(), full_float32():
            return float(self.network(to_signed(sr).to(self.device), to_signed(gt).to(self.device)))

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size has no score."""
        smallest = self.smallest_side[self.net]
        if min(height, width) < smallest:
            return f"{self.title} ({self.net}) needs {smallest} px a side; the image is {width}x{height}"
        return None


@METRICS.register("lpips")
class Lpips(LpipsDistance):
    """LPIPS of whole RGB pictures in [-1, 1]; lower is better, equal pictures give 0.

    The protocol's colour and border do not apply: the literature scores whole RGB pictures.

    Args:
        net: the trunk; `alex` is the usual one for scoring, `vgg` has higher values.
        device: where to compute; values on a GPU differ from the CPU's in the sixth digit.
        weights_dir: where to look for the trunk's weights first.

    Raises:
        MissingWeights: the trunk's ImageNet weights or the `lpips` package are not on this machine.
        ValueError: an unknown net, or weights of another network.
    """

    title = "LPIPS"
    smallest_side: ClassVar = {"alex": 31, "vgg": 16}  # below, a pooling layer of the trunk has no output

    def __init__(
        self, net: Literal["alex", "vgg"] = "alex", device: str = "auto", weights_dir: str | Path | None = None
    ) -> None:
        if net not in _TRUNKS:
            raise ValueError(f"lpips: net is {net!r}; use one of {', '.join(_TRUNKS)}")
        self.name = "lpips" if net == "alex" else f"lpips_{net}"
        self.net = net
        locate(f"lpips_{net}")  # the package itself; its own error would not say what it is for
        trunk = locate(_TRUNKS[net], weights_dir=weights_dir)
        self.device = pick_device(device)
        self.network = load_network(net, trunk).to(self.device)


def load_network(net: str, trunk: Path) -> nn.Module:
    """The `lpips` package's network with the trunk's weights from a torchvision file, in eval mode, frozen.

    Raises:
        ValueError: the file is not that of the trunk.
    """
    import lpips

    # The package would download the trunk; with `pnet_rand` it draws random weights, all of which are replaced below.
    # Neither its draws nor torchvision's warnings about the package's outdated call concern the caller.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    published = torch.load(trunk, map_location="cpu", weights_only=True)
    # `slice3.7.weight` of the package is `features.7.weight` of torchvision.
    wanted = {key: "features." + key.split(".", 1)[1] for key in network.net.state_dict()}
    missing = sorted(set(wanted.values()) - set(published))
    if missing:
        raise ValueError(f"{trunk}: not the weights of {_TRUNKS[net]}: it has no {missing[0]!r}")
    network.net.load_state_dict({key: published[name] for key, name in wanted.items()}, strict=True)
    return network.eval().requires_grad_(False)


def to_signed(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [-1, 1]."""
    levels = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]
    return (levels.double() / 127.5 - 1).float()
