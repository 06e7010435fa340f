"""SRResNet: residual blocks at low resolution, then sub-pixel convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from mvmsr.archs.global_skip import GlobalSkip
from mvmsr.archs.initial_weights import start_small
from mvmsr.archs.scalar_prelu import ScalarPReLU
from mvmsr.archs.shuffled_conv import ShuffledConv2d
from mvmsr.archs.upsampler import make_upsampler, shuffle_factors
from mvmsr.registry import ARCHS


class ResidualBlock(nn.Module):
    """`x + BN(conv(PReLU(BN(conv(x)))))`, with or without the batch normalisations."""

    def __init__(self, num_feat: int, bn: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_bn(num_feat, bn),
            ScalarPReLU(),
            *_conv_bn(num_feat, bn),
        )

    def forward(self, x: Tensor) -> Tensor:
        # In place: neither convolution nor normalisation needs its own output for its gradient.
        return self.body(x).add_(x)


@ARCHS.register()
class SRResNet(nn.Module):
    """The generator of SRGAN: (N, num_in_ch, h, w) in [0, 1] -> (N, num_out_ch, h*scale, w*scale), not clamped.

    9x9 convolution and PReLU; `num_block` residual blocks and one 3x3 convolution, bridged by a skip connection;
    a sub-pixel convolution with PReLU for each doubling; 9x9 convolution. Weights are drawn by PyTorch's defaults.

    The paper's has no `global_skip`; with one, its initial weights are small (`start_small`).

    Parameters at x4: 1,549,462 for 16 blocks (1,545,238 without batch normalisation), 734,219 for 5 (732,811).

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output.
        num_feat: channels of the feature maps.
        num_block: residual blocks; 16 in the paper's published results, 5 in some reimplementations.
        upscale: 1, 2, 3, 4 or 8.
        bn: batch normalisation after the 3x3 convolutions at low resolution, as in the paper.
        global_skip: what is added to the output, as in `GlobalSkip`.

    Raises:
        ValueError: another `upscale` or `global_skip`, or a skip between different numbers of channels.

    Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        upscale: int = 4,
        bn: bool = True,
        global_skip: str = "none",
    ) -> None:
        super().__init__()
        self.scale = upscale
        self.global_skip = GlobalSkip(global_skip, upscale, num_in_ch, num_out_ch)
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 9, padding=4)
        self.act_first = ScalarPReLU()
        self.body = nn.Sequential(*(ResidualBlock(num_feat, bn) for _ in range(num_block)), *_conv_bn(num_feat, bn))
        self.upsampler = make_upsampler(num_feat, upscale, ScalarPReLU, last_shuffle=False)
        self.conv_last = ShuffledConv2d(num_feat, num_out_ch, 9, factor=(shuffle_factors(upscale) or [1])[-1])
        if global_skip != "none":
            self.apply(start_small)

    def forward(self, lq: Tensor) -> Tensor:
        features = self.act_first(self.conv_first(lq))
        features = self.body(features).add_(features)
        return self.global_skip(self.conv_last(self.upsampler(features)), lq)


def _conv_bn(num_feat: int, bn: bool) -> list[nn.Module]:
    conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
    return [conv, nn.BatchNorm2d(num_feat)] if bn else [conv]
