"""A convolution of a pixel-shuffled map, done before the shuffle: the same values, sooner."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ShuffledConv2d(nn.Conv2d):
    """`conv(pixel_shuffle(x, factor))` for (N, in_channels * factor**2, h, w) -> (N, out_channels, h*factor, w*factor).

    Few output channels at high resolution leave vector and matrix units idle. The same sums are therefore formed at
    the low resolution, by a smaller kernel with factor**2 times the channels on both sides, and shuffled afterwards.
    Parameters, their names and shapes are those of `nn.Conv2d(in_channels, out_channels, kernel_size)` with zero
    padding that keeps the size.

    Args:
        in_channels: channels after the shuffle.
        out_channels: channels of the result.
        kernel_size: odd width of the kernel at the high resolution.
        factor: the shuffle's factor; 1 makes it a plain convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, factor: int) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        if self.factor == 1:
            return super().forward(x)
        radius = -(-(self.kernel_size[0] // 2) // self.factor)
        wanted = self.out_channels * self.factor**2
        # Kernels of matrix units come in multiples of 16 channels; odd numbers of them take slow paths.
        spare = -wanted % 16
        weight = F.pad(fold_weight(self.weight, self.factor), (0, 0, 0, 0, 0, 0, 0, spare))
        assert self.bias is not None
        bias = F.pad(self.bias.repeat_interleave(self.factor**2), (0, spare))
        return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=radius)[:, :wanted], self.factor)


def fold_weight(weight: Tensor, factor: int) -> Tensor:
    """Kernel (O, C, K, K) on shuffled pixels -> (O * factor**2, C * factor**2, k, k) on the pixels before the shuffle.

    Row `factor*y + a` of the result reads row `factor*(y + p) + i` where the kernel has its tap
    `factor*p + i - a + K//2`. Hence each sub-pixel a is one window, shifted by a, of the zero-padded kernel.
    """
    out_ch, in_ch, size, _ = weight.shape
    radius = -(-(size // 2) // factor)
    folded_size = 2 * radius + 1
    before = factor * radius - size // 2 + factor - 1
    after = factor * folded_size + factor - 1 - size - before
    padded = F.pad(weight, (before, after, before, after))
    span = factor * folded_size
    shifts = range(factor - 1, -1, -1)
    windows = torch.stack([padded[..., a : a + span, b : b + span] for a in shifts for b in shifts], 1)
    cells = windows.view(out_ch, factor**2, in_ch, folded_size, factor, folded_size, factor)
    return cells.permute(0, 1, 2, 4, 6, 3, 5).reshape(out_ch * factor**2, in_ch * factor**2, folded_size, folded_size)
