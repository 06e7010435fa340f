"""The mean over space, with a gradient that keeps the layout."""

from __future__ import annotations

from torch import Tensor, nn


def spatial_mean(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C).

    The value is that of `maps.mean((2, 3))`. The gradient of the latter is always channels-first, though; for
    channels-last maps the layers before it would run over two layouts at once, several times as slowly on a CPU.
    """
    return maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


class SpatialMean(nn.Module):
    """`spatial_mean` as a layer: (N, C, H, W) -> (N, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        return spatial_mean(maps)
