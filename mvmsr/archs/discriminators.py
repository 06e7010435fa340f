"""Discriminators: (N, num_in_ch, H, W) images -> (N, 1) logits, positive for real."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mvmsr.archs.spatial_mean import spatial_mean
from mvmsr.archs.strided_conv import StridedConv2d
from mvmsr.registry import ARCHS


@ARCHS.register()
class SRGANDiscriminator(nn.Module):
    """SRGAN's discriminator, averaged over space before its head, so that it takes images of any size.

    Eight 3x3 convolutions of which every second halves the size, batch normalisation on all but the first,
    LeakyReLU(0.2); mean over space; a hidden layer of 16 * num_feat. 5,215,425 parameters by default.

    Batch normalisation makes a logit depend on the whole batch: pass real and fake images separately.

    Args:
        num_in_ch: channels of the images.
        num_feat: channels of the first convolution; they double three times.

    Source: Ledig et al. 2017, figure 4; the pooled head is that of https://github.com/leftthomas/SRGAN, less its
    sigmoid.
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(num_in_ch, num_feat, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        in_ch = num_feat
        for factor, stride in ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)):
            out_ch = factor * num_feat
            layers += [
                StridedConv2d(in_ch, out_ch, 3) if stride == 2 else nn.Conv2d(in_ch, out_ch, 3, padding=1),
                nn.BatchNorm2d(out_ch),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            in_ch = out_ch
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(in_ch, 16 * num_feat), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16 * num_feat, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.head(spatial_mean(self.features(image)))


@ARCHS.register()
class NatSRDiscriminator(nn.Module):
    """NatSR's discriminator: spectrally normalised 3x3 convolutions whose last map is averaged to the logit.

    Five pairs of convolutions (the second halves the size) of num_feat * 1, 2, 4, 8, 16 channels, LeakyReLU(0.2),
    no batch normalisation. Each forward pass in training mode does one power iteration. 18,852,417 parameters by
    default; takes images of any size.

    Args:
        num_in_ch: channels of the images.
        num_feat: channels of the first pair.

    Source: Soh et al. 2019; https://github.com/JWSoh/NatSR
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_ch = num_in_ch
        for factor in (1, 2, 4, 8, 16):
            out_ch = factor * num_feat
            layers += [_normalised_conv(in_ch, out_ch, 1), nn.LeakyReLU(0.2, inplace=True)]
            layers += [_normalised_conv(out_ch, out_ch, 2), nn.LeakyReLU(0.2, inplace=True)]
            in_ch = out_ch
        self.features = nn.Sequential(*layers, _normalised_conv(in_ch, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return spatial_mean(self.features(image))


def _normalised_conv(in_ch: int, out_ch: int, stride: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(in_ch, out_ch, 3, stride, padding=1), n_power_iterations=1, eps=1e-12)
