"""A skip connection from the input, enlarged, to the output."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

MODES = ("none", "bilinear", "bicubic")


class GlobalSkip(nn.Module):
    """Adds an enlargement of `lq` to what a network makes of it; no parameters.

    A network with one corrects the enlargement. Without, it spends its first thousands of iterations on learning to
    copy its input.

    Args:
        mode: "none" (adds nothing), or how `lq` is enlarged: "bilinear" or "bicubic", without antialiasing.
        scale: how many times.
        num_in_ch: channels of `lq`.
        num_out_ch: channels of the output.

    Raises:
        ValueError: another mode, or a skip between different numbers of channels.
    """

    def __init__(self, mode: str, scale: int, num_in_ch: int, num_out_ch: int) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"global_skip must be {', '.join(MODES[:-1])} or {MODES[-1]}, got {mode!r}")
        if mode != "none" and num_in_ch != num_out_ch:
            raise ValueError(f"global_skip needs as many channels out as in, got {num_out_ch} and {num_in_ch}")
        self.mode = mode
        self.scale = scale

    def forward(self, sr: Tensor, lq: Tensor) -> Tensor:
        """(N, C, H, W) and (N, C, h, w) -> (N, C, H, W)."""
        if self.mode == "none":
            return sr
        return sr + F.interpolate(lq, scale_factor=self.scale, mode=self.mode, align_corners=False)
