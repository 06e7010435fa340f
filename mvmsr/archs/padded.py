"""Makes networks whose input sides must be multiples of a number take any size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_UNSHUFFLED = {1: 4, 2: 2}
"""By how much ESRGAN's network unshuffles the pixels of its input at a scale."""


def size_multiple(network: nn.Module) -> int:
    """What a network's input sides must be multiples of; 1 where it takes any size, or pads by itself.

    Known of networks that work in windows, by an attribute `window_size` of theirs or of their layers (SwinIR, HAT,
    ...), and of RRDBNet.
    """
    if hasattr(network, "multiple"):  # our wrapper of others' networks, which pads
        return 1
    if type(network).__name__ == "RRDBNet":
        return _UNSHUFFLED.get(getattr(network, "scale", 4), 1)
    windows = {side for part in network.modules() for side in _sides(getattr(part, "window_size", None))}
    return math.lcm(*windows)


def _sides(window: object) -> tuple[int, ...]:
    """Sides of a window, which is a number or two."""
    sides = tuple(window) if isinstance(window, (list, tuple)) else (window,)
    return tuple(side for side in sides if type(side) is int and side > 0)


def padded(network: nn.Module, scale: int) -> nn.Module:
    """The network itself where it takes any size, else the network in a `Padded`."""
    multiple = size_multiple(network)
    return network if multiple == 1 else Padded(network, scale, multiple)


class Padded(nn.Module):
    """A network called on mirrored pictures, its output cropped: (N, C, h, w) -> (N, C, h*scale, w*scale).

    Attributes:
        model: the network.
        scale: its factor.
        multiple: sides are padded to multiples of it; tiles start at multiples of it.
    """

    def __init__(self, network: nn.Module, scale: int, multiple: int) -> None:
        super().__init__()
        self.model = network
        self.scale = scale
        self.multiple = multiple

    def forward(self, lq: Tensor) -> Tensor:
        height, width = lq.shape[-2:]
        extra_height, extra_width = -height % self.multiple, -width % self.multiple
        if torch.jit.is_tracing() or torch.compiler.is_exporting():  # a branch on a size would be settled for good
            lq = F.pad(lq, (0, extra_width, 0, extra_height), mode="reflect")
        else:
            lq = mirrored(lq, extra_height, extra_width)
        sr = self.model(lq)
        return sr[..., : height * self.scale, : width * self.scale]


def mirrored(lq: Tensor, extra_height: int, extra_width: int) -> Tensor:
    """(N, C, h, w) with rows below and columns to the right: mirrored as far as the picture reaches, then repeated."""
    if not (extra_height or extra_width):
        return lq
    height, width = lq.shape[-2:]
    rows, columns = min(extra_height, height - 1), min(extra_width, width - 1)
    lq = F.pad(lq, (0, columns, 0, rows), mode="reflect")
    return F.pad(lq, (0, extra_width - columns, 0, extra_height - rows), mode="replicate")
