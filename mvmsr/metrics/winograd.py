"""Convolutions of 3x3 by Winograd's method: a quarter of the multiplications, about half the time.

PyTorch's convolution on a processor multiplies as the definition says. In single precision the results differ from
its in the sixth digit.

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4: tiles of 4x4
    outputs, Y = A' [(G g G') * (B' d B)] A with the points 0, 1, -1, 2, -2 and infinity.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GIVEN, _TAKEN = 4, 6
"""Rows and columns of a tile of output, and of the input that it takes."""
_A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_B = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G24 = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
"""24 G."""
_AT_ONCE = 1 << 19
"""Numbers of a strip of tiles that are worked on together, so that they stay in the processor's cache."""


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d` of 3x3 that keeps height and width; by Winograd's method on the CPU in inference."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self._weight_is: tuple[int, int] | None = None
        self._transformed = torch.empty(0)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, outputs, H, W)."""
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_grad_enabled():
            return super().forward(input)
        weight_is = (self.weight.data_ptr(), self.weight._version)
        if self._weight_is != weight_is:
            self._transformed, self._weight_is = transform_weight(self.weight), weight_is
        return winograd_conv2d(input, self._transformed, self.bias)


def transform_weight(weight: Tensor) -> Tensor:
    """Kernels (outputs, inputs, 3, 3) as (36, inputs, outputs)."""
    g = torch.tensor(_G24, dtype=torch.float64) / 24
    return torch.einsum("pi,ocij,qj->pqco", g, weight.double(), g).flatten(0, 1).to(weight.dtype).contiguous()


def winograd_conv2d(x: Tensor, transformed: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of (N, C, H, W) with one row and column of zeros around it; the result is in channels_last.

    Args:
        transformed: (36, C, outputs) of `transform_weight`.
    """
    count, inputs, height, width = x.shape
    down, across, outputs = -(-height // _GIVEN), -(-width // _GIVEN), transformed.shape[2]
    beyond_right, beyond_below = across * _GIVEN + 1 - width, down * _GIVEN + 1 - height
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, beyond_right, 1, beyond_below))
    a, b = (torch.tensor(matrix, dtype=x.dtype) for matrix in (_A, _B))
    both_a, both_b = torch.kron(a, a), torch.kron(b, b)  # rows and columns in one multiplication
    result = x.new_empty(count, height, width, outputs)
    rows = max(1, _AT_ONCE // (_TAKEN**2 * across * max(inputs, outputs)))
    for picture in range(count):
        for start in range(0, down, rows):
            stop = min(start + rows, down)
            strip = padded[picture, start * _GIVEN : stop * _GIVEN + 2]
            tiles = strip.unfold(0, _TAKEN, _GIVEN).unfold(1, _TAKEN, _GIVEN).permute(3, 4, 0, 1, 2)
            spectrum = both_b @ tiles.reshape(_TAKEN**2, -1)
            mixed = torch.bmm(spectrum.view(_TAKEN**2, -1, inputs), transformed)
            values = (both_a @ mixed.view(_TAKEN**2, -1)).view(_GIVEN, _GIVEN, stop - start, across, outputs)
            values = values.permute(2, 0, 3, 1, 4).reshape(-1, across * _GIVEN, outputs)
            here = result[picture, start * _GIVEN : stop * _GIVEN]
            here.copy_(values[: here.shape[0], :width])
            if bias is not None:
                here += bias
    return result.permute(0, 3, 1, 2)
