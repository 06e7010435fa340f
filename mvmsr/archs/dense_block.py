"""The residual dense block of RDN and NSRNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualDenseBlock(nn.Module):
    """`x + residual_scale * fuse(cat(x, y1, ..., yC))`, `yk = relu(conv3(cat(x, y1, ..., y(k-1))))`; (N, F, H, W).

    Args:
        num_feat: channels F of input and output.
        num_layer: number C of 3x3 convolutions.
        num_grow_ch: channels of each y.
        residual_scale: factor of the fused features before they are added to the input.

    Source: Zhang et al., "Residual Dense Network for Image Super-Resolution", 2018, section 3.2.
    """

    def __init__(self, num_feat: int, num_layer: int, num_grow_ch: int, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.layers = nn.ModuleList(
            nn.Conv2d(num_feat + k * num_grow_ch, num_grow_ch, 3, padding=1) for k in range(num_layer)
        )
        self.fuse = nn.Conv2d(num_feat + num_layer * num_grow_ch, num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for layer in self.layers:
            features = torch.cat([features, layer(features).relu_()], 1)
        return torch.add(x, self.fuse(features), alpha=self.residual_scale)
