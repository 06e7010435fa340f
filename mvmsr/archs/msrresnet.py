"""MSRResNet: SRResNet as BasicSR modified it, compatible with its weights files."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mvmsr.archs.initial_weights import start_small
from mvmsr.archs.upsampler import shuffle_factors
from mvmsr.registry import ARCHS


class PlainBlock(nn.Module):
    """`x + conv2(relu(conv1(x)))`."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(x), inplace=True)).add_(x)


@ARCHS.register()
class MSRResNet(nn.Module):
    """(N, num_in_ch, h, w) in [0, 1] -> (N, num_out_ch, h*scale, w*scale): a correction of the bilinear enlargement.

    Only 3x3 convolutions, LeakyReLU(0.1), no normalisation. Parameter names equal those of BasicSR's class of the
    same name, so that weights files go both ways; 1,517,571 parameters with the default arguments. Convolutions
    start from a tenth of He's normal initialisation (residual blocks included), biases from zero.

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output; equal to `num_in_ch`, or one of them is 1.
        num_feat: channels of the feature maps.
        num_block: residual blocks.
        upscale: 2, 3 or 4.

    Raises:
        ValueError: another `upscale`.

    Source: https://github.com/XPixelGroup/BasicSR (parameter names and structure).
    """

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 16, upscale: int = 4
    ) -> None:
        super().__init__()
        if upscale not in (2, 3, 4):
            raise ValueError(f"MSRResNet enlarges by 2, 3 or 4, got upscale={upscale}; SRResNet takes other factors")
        self.scale = upscale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(PlainBlock(num_feat) for _ in range(num_block)))
        factors = shuffle_factors(upscale)
        self.upconv1 = nn.Conv2d(num_feat, num_feat * factors[0] ** 2, 3, padding=1)
        if len(factors) == 2:
            self.upconv2 = nn.Conv2d(num_feat, num_feat * factors[1] ** 2, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(factors[0])
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.lrelu = nn.LeakyReLU(0.1, inplace=True)
        self.apply(start_small)

    def forward(self, lq: Tensor) -> Tensor:
        features = self.body(self.lrelu(self.conv_first(lq)))
        features = self.lrelu(self.pixel_shuffle(self.upconv1(features)))
        if self.scale == 4:
            features = self.lrelu(self.pixel_shuffle(self.upconv2(features)))
        correction = self.conv_last(self.lrelu(self.conv_hr(features)))
        return correction + F.interpolate(lq, scale_factor=self.scale, mode="bilinear", align_corners=False)
