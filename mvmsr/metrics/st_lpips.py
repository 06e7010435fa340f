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
import torch.nn.functional as F
from torch import Tensor, nn

from mvmsr.hardware import pick_device
from mvmsr.metrics.lpips_metric import to_signed
from mvmsr.metrics.metric import Metric, same_size
from mvmsr.metrics.protocol import Protocol
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


class Blur(nn.Module):
    """Every second value after smoothing by [1, 2, 1] in both directions: (N, C, H, W) -> (N, C, H//2 + 1, W//2 + 1).

    Borders are mirrored two pixels wide (without the edge pixel), one more than the filter needs.
    """

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filt", torch.outer(row, row).expand(channels, 1, 3, 3).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class Scaling(nn.Module):
    """(x - shift) / scale per colour; the published files hold both."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


def _alex() -> list[list[nn.Module]]:
    """AlexNet's five stages."""

    def conv(inputs: int, outputs: int, side: int, padding: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, side, padding=padding), nn.ReLU(inplace=True)]

    def shrink(channels: int) -> list[nn.Module]:
        return [nn.MaxPool2d(3, stride=1), Blur(channels)]

    return [
        [nn.Conv2d(3, 64, 11, padding=2), Blur(64), nn.ReLU(inplace=True)],
        [*shrink(64), *conv(64, 192, 5, 2)],
        [*shrink(192), *conv(192, 384, 3, 1)],
        conv(384, 256, 3, 1),
        conv(256, 256, 3, 1),
    ]


def _vgg() -> list[list[nn.Module]]:
    """VGG16's five stages."""
    stages: list[list[nn.Module]] = []
    inputs = 3
    for outputs, convs in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        stage: list[nn.Module] = [nn.MaxPool2d(2, stride=1), Blur(inputs)] if stages else []
        for _ in range(convs):
            stage += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        stages.append(stage)
    return stages


class ShiftTolerantNetwork(nn.Module):
    """Weighted squared differences of unit-length features after each of five stages, averaged over places and summed.

    Two tensors (N, 3, H, W) in [-1, 1] -> (N, 1, 1, 1). Parameters have the names of the published files.
    """

    def __init__(self, net: str) -> None:
        super().__init__()
        stages = _alex() if net == "alex" else _vgg()
        self.scaling_layer = Scaling()
        self.net, self.stages = nn.Module(), len(stages)
        position = 0  # layers are numbered through all stages
        for number, layers in enumerate(stages):
            named = {str(position + k): layer for k, layer in enumerate(layers)}
            position += len(layers)
            self.net.add_module(f"slice{number + 1}", nn.Sequential())
            for key, layer in named.items():
                self.net.get_submodule(f"slice{number + 1}").add_module(key, layer)
            channels = next(layer.out_channels for layer in reversed(layers) if isinstance(layer, nn.Conv2d))
            weighting = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{number}", nn.ModuleDict({"model": weighting}))

    def features(self, x: Tensor) -> list[Tensor]:
        """The stages' outputs (N, C, h, w), each place's channels scaled to unit length."""
        x = self.scaling_layer(x)
        found = []
        for number in range(1, self.stages + 1):
            x = self.net.get_submodule(f"slice{number}")(x)
            length = x.square().sum(dim=1, keepdim=True).sqrt()
            found.append(x / (length + 1e-10))
        return found

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        distances = [
            self.get_submodule(f"lin{number}.model")((a - b).square()).mean(dim=(2, 3), keepdim=True)
            for number, (a, b) in enumerate(zip(self.features(first), self.features(second), strict=True))
        ]
        total = distances[0]
        for distance in distances[1:]:
            total = total + distance
        return total


def load_network(net: str, weights: Path) -> nn.Module:
    """The network with published weights, in eval mode, frozen.

    Raises:
        ValueError: the file is not that of the network.
    """
    network = ShiftTolerantNetwork(net)
    published = torch.load(weights, map_location="cpu", weights_only=True)
    try:
        network.load_state_dict(published, strict=True)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{weights}: not the weights of ST-LPIPS ({net}): {str(error).splitlines()[-1]}") from error
    return network.eval().requires_grad_(False)
