"""A convolution of stride 2, computed in other ways where those are quicker on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

_MANY_CHANNELS = 128
_FEW_PIXELS = 576
_PICTURE_CHANNELS = 4
"""At most so many channels has a picture."""


class StridedConv2d(nn.Conv2d):
    """`nn.Conv2d(in_channels, out_channels, kernel_size, stride=2, padding=1)`, quicker in some layers on a CPU.

    With many channels and few pixels, a CPU's convolution spends its time on reordering the weights, above all for
    their gradient. There the patches are laid out as rows and multiplied with the weights as they are: measured on
    32 maps of 256x6x6 in bfloat16, forward and both gradients take a quarter of the time.

    The gradient of a picture is slow as well. In compiled graphs it is taken by cells of 2x2 pixels: measured on 16
    pictures of 96x96 in bfloat16, forward and this gradient take half the time.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: 3 or 4.
        bias: whether to add a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=2, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if x.device.type != "cpu":
            return super().forward(x)
        if self.in_channels >= _MANY_CHANNELS and height * width <= _FEW_PIXELS:
            return conv_as_product(x, self.weight, self.bias, stride=2, padding=1)
        whole_cells = height % 2 == width % 2 == 0 and self.kernel_size == (4, 4)
        if self.in_channels <= _PICTURE_CHANNELS and whole_cells and torch.compiler.is_compiling():
            maps = _ByCells.apply(x, self.weight)
            return maps if self.bias is None else maps + self.bias.to(maps.dtype)[:, None, None]
        return super().forward(x)


def _in_autocast_precision(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What autocast makes of a convolution's tensors, and does not make of those of our own functions."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, weight
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype)


class _ByCells(torch.autograd.Function):
    """`F.conv2d(x, weight, stride=2, padding=1)` with 4x4 kernels, for x (N, C, H, W) of even H and W.

    To the cells of 2x2 pixels of the padded picture it is a convolution of stride 1 with 2x2 kernels, whose gradient
    CPUs are made for. For compiled graphs, which leave out the gradient that is not asked for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution as it is, in the precision of autocast."""
        x, weight = _in_autocast_precision(x, weight)
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Both gradients."""
        x, weight = ctx.saved_tensors
        cells = F.conv_transpose2d(grads[0], F.pixel_unshuffle(weight, 2))
        of_weight = conv2d_weight(x, weight.shape, grads[0], stride=2, padding=1)
        return F.pixel_shuffle(cells, 2)[:, :, 1:-1, 1:-1], of_weight


def conv_as_product(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """`F.conv2d(x, weight, bias, stride, padding)` for x (N, C, H, W) and kernels (O, C, K, K)."""
    n, channels, height, _ = x.shape
    out_ch, _, size, _ = weight.shape
    patches = _Patches.apply(x, size, stride, padding)
    kernels = weight.permute(0, 2, 3, 1).reshape(out_ch, size * size * channels)
    rows = (height + 2 * padding - size) // stride + 1
    if torch.compiler.is_compiling():
        product = _Product.apply(patches, kernels)
        product = product if bias is None else product + bias.to(product.dtype)
    else:
        product = F.linear(patches, kernels, bias)
    return product.view(n, rows, -1, out_ch).permute(0, 3, 1, 2)


class _Product(torch.autograd.Function):
    """(M, K) x (O, K) -> (M, O), whose gradient of the kernels takes half the time of `F.linear`'s on a CPU.

    For compiled graphs, which leave out the gradient that is not asked for; otherwise both would be computed.
    """

    @staticmethod
    def forward(ctx: Any, patches: Tensor, kernels: Tensor) -> Tensor:
        """The product, in the precision of autocast."""
        patches, kernels = _in_autocast_precision(patches, kernels)
        ctx.save_for_backward(patches, kernels)
        return patches @ kernels.t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Both gradients. Rows of few elements far apart are what makes the other one slow: they are copied first."""
        patches, kernels = ctx.saved_tensors
        return grads[0] @ kernels, grads[0].t().contiguous() @ patches


class _Patches(torch.autograd.Function):
    """(N, C, H, W) -> (N * rows * columns, K * K * C): what each output pixel sees, row by row, channels innermost.

    Apart from the product, so that a backward pass that asks for the weights' gradient alone never comes here.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, stride: int, padding: int) -> Tensor:
        """Copy the windows; `size`, `stride` and `padding` are those of the convolution."""
        ctx.geometry = (x.shape, size, stride, padding)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
        windows = padded.unfold(1, size, stride).unfold(2, size, stride)  # n, rows, columns, c, i, j
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, size * size * x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Add what the windows got to the pixels that they were copied from."""
        add = _add_at_once if torch.compiler.is_compiling() else _add_one_by_one
        return add(grads[0], *ctx.geometry), None, None, None


def _add_one_by_one(grad: Tensor, shape: torch.Size, size: int, stride: int, padding: int) -> Tensor:
    n, channels, height, width = shape
    tall, wide = height + 2 * padding, width + 2 * padding
    rows, columns = (tall - size) // stride + 1, (wide - size) // stride + 1
    total = grad.new_zeros(n, tall, wide, channels)
    # In cells of stride x stride pixels, where kernel and picture are made of such, else pixel by pixel.
    step = stride if size % stride == tall % stride == wide % stride == 0 else 1
    every = stride // step
    cells = total.view(n, tall // step, step, wide // step, step, channels).transpose(2, 3)
    windows = grad.view(n, rows, columns, size // step, step, size // step, step, channels).transpose(4, 5)
    for i in range(size // step):
        for j in range(size // step):
            below, right = i + every * (rows - 1) + 1, j + every * (columns - 1) + 1
            cells[:, i:below:every, j:right:every] += windows[:, :, :, i, j]
    return total[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)


def _add_at_once(grad: Tensor, shape: torch.Size, size: int, stride: int, padding: int) -> Tensor:
    """The same as a sum of shifted maps: several times as slow, but a compiler can make one loop of it."""
    n, channels, height, width = shape
    tall, wide = height + 2 * padding, width + 2 * padding
    rows, columns = (tall - size) // stride + 1, (wide - size) // stride + 1
    taps = -(-size // stride)  # of the kernel made of whole cells of stride x stride pixels
    spare = taps * stride - size
    windows = F.pad(grad.view(n, rows, columns, size, size, channels), (0, 0, 0, spare, 0, spare))
    windows = windows.view(n, rows, columns, taps, stride, taps, stride, channels)
    below, right = -(-tall // stride) - rows, -(-wide // stride) - columns  # cells beyond the last window's first
    total = sum(
        F.pad(windows[:, :, :, i, :, j].transpose(2, 3), (0, 0, 0, 0, j, right - j, 0, 0, i, below - i))
        for i in range(taps)
        for j in range(taps)
    )
    assert isinstance(total, Tensor)
    total = total.reshape(n, stride * (rows + below), stride * (columns + right), channels)
    return total[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)
