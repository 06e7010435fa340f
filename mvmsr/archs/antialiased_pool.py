"""Max pooling that blurs before it leaves pixels out, so that features move with the picture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class AntialiasedMaxPool2d(nn.Module):
    """(N, C, H, W) -> (N, C, H // 2 + 1, W // 2 + 1): 2x2 maxima at every pixel, blurred by [1 2 1], every second kept.

    The maxima are mirrored by two pixels at each side first, as in the networks of ST-LPIPS, so that H and W are at
    least 4.

    Source: Zhang, Making Convolutional Networks Shift-Invariant Again, https://arxiv.org/abs/1904.11486; the border is
    that of Ghildyal and Liu, Shift-tolerant Perceptual Similarity Metric, https://arxiv.org/abs/2207.13686
    """

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < 4:
            raise ValueError(f"expected maps of at least 4x4, got {x.shape[-2]}x{x.shape[-1]}; use larger images")
        maxima = F.pad(F.max_pool2d(x, 2, stride=1), (2, 2, 2, 2), mode="reflect")
        # [1 2 1] / 4 is [1 1] / 2 twice. A convolution's gradient takes a CPU in bfloat16 two to five times as long.
        return F.avg_pool2d(F.avg_pool2d(maxima, 2, stride=1), 2)
