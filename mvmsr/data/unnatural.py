"""Pictures just off the manifold of natural ones, noisy or blurry, to teach a discriminator where it ends.

Source: Soh et al., Natural and Realistic Single Image Super-Resolution with Explicit Natural Manifold
    Discrimination, CVPR 2019, section 3.1; https://github.com/JWSoh/NatSR
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8
"""Side of the blocks whose highest frequencies get noise."""


def dct_matrix(size: int = BLOCK) -> Tensor:
    """The orthonormal DCT-II: row k holds the cosine of frequency k; `dct_matrix() @ x` transforms a column x.

    >>> m = dct_matrix(2)
    >>> m @ m.T
    tensor([[1., 0.],
            [0., 1.]])
    """
    position = torch.arange(size, dtype=torch.float64)
    frequency = position[:, None]
    cosines = torch.cos(math.pi * (2 * position + 1) * frequency / (2 * size)) * math.sqrt(2 / size)
    cosines[0] = 1 / math.sqrt(size)
    return cosines.float()


def noisy(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W) with normal noise on the highest horizontal and vertical frequency of each 8x8 block.

    The 15 coefficients of a block's last row and column get noise of standard deviation `sigma` (images in [0, 1]);
    the result is not clipped. The transform is linear, so that only the noise has to go through its inverse.

    Args:
        generator: of the CPU, so that every device gets the same noise.

    Raises:
        ValueError: sides that are no multiples of 8.
    """
    count, channels, height, width = images.shape
    if height % BLOCK or width % BLOCK:
        raise ValueError(f"expected sides that are multiples of {BLOCK}, got {height}x{width}")
    coefficients = torch.randn(
        count, channels, height // BLOCK, width // BLOCK, BLOCK, BLOCK, generator=generator, dtype=torch.float32
    )
    coefficients[..., : BLOCK - 1, : BLOCK - 1] = 0
    matrix = dct_matrix()
    noise = sigma * (matrix.T @ coefficients @ matrix)
    noise = noise.permute(0, 1, 2, 4, 3, 5).reshape(images.shape)
    return images + noise.to(images.device, images.dtype)


def blurry(images: Tensor, lq: Tensor, alpha: float) -> Tensor:
    """alpha * images + (1 - alpha) * lq enlarged by bicubic interpolation; (N, C, H, W), not clipped.

    Args:
        lq: the same pictures, reduced by a whole factor.
        alpha: share of the originals, 0 to 1.

    Raises:
        ValueError: `alpha` outside of [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha from 0 to 1, got {alpha}")
    # antialias=True selects the kernel with a = -0.5, MATLAB's, also for enlarging.
    enlarged = F.interpolate(lq, images.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
    return alpha * images + (1 - alpha) * enlarged
