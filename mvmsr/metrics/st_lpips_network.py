"""ST-LPIPS's networks, arranged to be quick on a processor and to hold few large tensors at once.

Values are the published networks' but for the order of summation (some 1e-7 of a score): blurring and convolving are
exchanged where nothing stands between them, the largest of nine values is found by rows and columns, 3x3
convolutions go by Winograd's method, and both pictures pass one stage before either passes the next.

Source: Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022, section 4.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmsr.metrics.winograd import WinogradConv2d

_AT_ONCE = 1 << 20
"""Numbers of a picture's features that are compared together."""


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


class Largest(nn.Module):
    """`nn.MaxPool2d(side, stride=1)`, by rows and then by columns."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        for dim in (2, 3):
            length = x.shape[dim] - self.side + 1
            shifted = [x.narrow(dim, k, length) for k in range(self.side)]
            x = torch.maximum(shifted[0], shifted[1])
            for other in shifted[2:]:
                torch.maximum(x, other, out=x)
        return x


class ConvBlur(nn.Sequential):
    """A convolution, `Blur` and an activation, as blurring the few channels before a convolution of stride 2.

    Both are linear and treat all places alike, so they can be exchanged; `Blur`'s mirrored borders are made up for.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, H, W) -> (N, outputs, h, w)."""
        conv, _, *rest = self
        assert isinstance(conv, nn.Conv2d)
        side, edge = conv.kernel_size[0], int(conv.padding[0])
        x = F.pad(x, (edge, edge, edge, edge))
        places = []
        for dim in (2, 3):
            x, inside, last = _smooth_for_conv(x, dim, side)
            places.append((inside, last))
        x = F.conv2d(x.contiguous(memory_format=torch.channels_last), conv.weight, conv.bias, stride=2)
        for layer in rest:
            x = layer(x)
        for dim, (inside, last) in zip((2, 3), places, strict=True):
            x = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, inside), x.narrow(dim, last, 1)], dim)
        return x


def _smooth_for_conv(x: Tensor, dim: int, side: int) -> tuple[Tensor, int, int]:
    """What a convolution of stride 2 takes for `Blur` of that of stride 1; how many places are inside; the last place.

    Let y be the convolution of stride 1, `length` long. Inside, `Blur` is y smoothed at each second place. At both ends
    it mirrors y (not x): its first value smooths y[2], y[1], y[0] and so equals the second; its last one equals the
    one before where `length` is odd, and is (y[-2] + y[-1]) / 2 where it is even. For that the last side + 1 places
    of x are appended once more, averaged by twos.
    """
    length = x.shape[dim] - side + 1
    inside = (length - 1) // 2
    if inside < 1:
        raise RuntimeError(f"Padding size of Blur should be less than its input, which is {length} long")

    def part(start: int, count: int) -> Tensor:
        return x.narrow(dim, start, count)

    taken = 2 * (inside - 1) + side
    smooth = (part(0, taken) + part(2, taken)) / 4 + part(1, taken) / 2
    if length % 2:
        return smooth, inside, inside - 1
    ends = (part(length - 2, side) + part(length - 1, side)) / 2
    smooth = torch.cat([smooth, part(0, 1), ends], dim)  # one place between makes it start at an even one
    return smooth, inside, (taken + 1) // 2


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


def _conv(inputs: int, outputs: int, side: int) -> list[nn.Module]:
    # Three channels are too few for Winograd's method to save anything.
    quick = side == 3 and inputs > 3
    conv = WinogradConv2d(inputs, outputs) if quick else nn.Conv2d(inputs, outputs, side, padding=side // 2)
    return [conv, nn.ReLU(inplace=True)]


def _alex() -> list[nn.Sequential]:
    """AlexNet's five stages."""
    return [
        ConvBlur(nn.Conv2d(3, 64, 11, padding=2), Blur(64), nn.ReLU(inplace=True)),
        nn.Sequential(Largest(3), Blur(64), *_conv(64, 192, 5)),
        nn.Sequential(Largest(3), Blur(192), *_conv(192, 384, 3)),
        nn.Sequential(*_conv(384, 256, 3)),
        nn.Sequential(*_conv(256, 256, 3)),
    ]


def _vgg() -> list[nn.Sequential]:
    """VGG16's five stages."""
    stages: list[nn.Sequential] = []
    inputs = 3
    for outputs, convs in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        stage: list[nn.Module] = [Largest(2), Blur(inputs)] if stages else []
        for _ in range(convs):
            stage += _conv(inputs, outputs, 3)
            inputs = outputs
        stages.append(nn.Sequential(*stage))
    return stages


class ShiftTolerantNetwork(nn.Module):
    """Weighted squared differences of unit-length features after each of five stages, averaged over places and summed.

    Two tensors (N, 3, H, W) in [-1, 1] -> (N, 1, 1, 1). Parameters have the names of the published files.
    """

    def __init__(self, net: str) -> None:
        super().__init__()
        self.scaling_layer = Scaling()
        self.net = nn.Module()
        self.stages: list[nn.Sequential] = []
        position = 0  # the published files number layers through all stages
        for number, stage in enumerate(_alex() if net == "alex" else _vgg()):
            channels = next(layer.out_channels for layer in reversed(stage) if isinstance(layer, nn.Conv2d))
            named = type(stage)()
            for layer in stage:
                named.add_module(str(position), layer)
                position += 1
            self.net.add_module(f"slice{number + 1}", named)
            weighting = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{number}", nn.ModuleDict({"model": weighting}))
            self.stages.append(named)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The distance of each pair of pictures."""
        a, b = (self.scaling_layer(x).contiguous(memory_format=torch.channels_last) for x in (first, second))
        distances = []
        for number, stage in enumerate(self.stages):
            a, b = stage(a), stage(b)
            distances.append(_distance(a, b, self.get_parameter(f"lin{number}.model.1.weight")))
        total = distances[0]
        for distance in distances[1:]:
            total = total + distance
        return total


def _distance(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """The mean over places of the weighted squared differences of features (N, C, H, W), each place's of unit length.

    Strips of rows are taken, so that nothing as large as the features is made beside them.
    """
    count, channels, height, width = first.shape
    rows = max(1, _AT_ONCE // (channels * width * count))
    total = first.new_zeros(count, 1, 1, 1, dtype=torch.float64 if first.device.type != "mps" else first.dtype)
    for start in range(0, height, rows):
        a, b = (x.narrow(2, start, min(rows, height - start)) for x in (first, second))
        a, b = (x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10) for x in (a, b))
        total += F.conv2d((a - b).square_(), weight).sum(dim=(2, 3), keepdim=True)
    return (total / (height * width)).to(first.dtype)


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
