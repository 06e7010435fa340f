"""RDN: the residual dense network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mvmsr.archs.dense_block import ResidualDenseBlock
from mvmsr.archs.global_skip import GlobalSkip
from mvmsr.archs.initial_weights import start_small
from mvmsr.archs.upsampler import make_upsampler
from mvmsr.registry import ARCHS


@ARCHS.register()
class RDN(nn.Module):
    """(N, num_in_ch, h, w) in [0, 1] -> (N, num_out_ch, h*scale, w*scale), not clamped.

    Two shallow convolutions; `num_block` residual dense blocks whose outputs are concatenated and fused; a skip
    connection from the first convolution; sub-pixel convolutions without activation; one last convolution.

    Parameters at x4: 22,271,107 with 16 blocks of 8 layers growing by 64 (the paper's, the default);
    5,764,227 with 20 blocks of 6 layers growing by 32. Memory grows by num_block * num_layer**2.

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output.
        num_feat: channels of the feature maps (G0 in the paper).
        num_block: residual dense blocks (D).
        num_layer: convolutions in a block (C).
        num_grow_ch: channels that each of them adds (the growth rate G).
        upscale: 1, 2, 3, 4 or 8.
        global_skip: what is added to the output, as in `GlobalSkip`; the paper's network adds nothing. With a skip the
            last convolution's initial weights are small (`start_small`).

    Source: Zhang et al., "Residual Dense Network for Image Super-Resolution", 2018;
    https://github.com/yulunzhang/RDN
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        num_layer: int = 8,
        num_grow_ch: int = 64,
        upscale: int = 4,
        global_skip: str = "none",
    ) -> None:
        super().__init__()
        self.scale = upscale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.conv_second = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualDenseBlock(num_feat, num_layer, num_grow_ch) for _ in range(num_block))
        self.fuse = nn.Sequential(
            nn.Conv2d(num_block * num_feat, num_feat, 1),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
        )
        self.upsampler = make_upsampler(num_feat, upscale)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.global_skip = GlobalSkip(global_skip, upscale, num_in_ch, num_out_ch)
        if global_skip != "none":
            start_small(self.conv_last)

    def forward(self, lq: Tensor) -> Tensor:
        shallow = self.conv_first(lq)
        features = self.conv_second(shallow)
        outputs = []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        sr = self.conv_last(self.upsampler(shallow + self.fuse(torch.cat(outputs, 1))))
        return self.global_skip(sr, lq)
