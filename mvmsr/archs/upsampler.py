"""Enlarging feature maps by sub-pixel convolutions."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def shuffle_factors(upscale: int) -> list[int]:
    """The factors of the successive pixel shuffles that make `upscale`.

    >>> shuffle_factors(4), shuffle_factors(3), shuffle_factors(1)
    ([2, 2], [3], [])

    Raises:
        ValueError: `upscale` is neither 3 nor a power of two.
    """
    if upscale == 3:
        return [3]
    if upscale < 1 or upscale & (upscale - 1):
        raise ValueError(f"upscale must be 3 or a power of two (1, 2, 4, 8), got {upscale}")
    return [2] * (upscale.bit_length() - 1)


def make_upsampler(
    num_feat: int, upscale: int, activation: Callable[[], nn.Module] | None = None, last_shuffle: bool = True
) -> nn.Sequential:
    """Steps of [3x3 convolution, activation, pixel shuffle] from (N, num_feat, h, w) to `upscale` times the size.

    Args:
        num_feat: channels before, between and after the steps.
        upscale: 1, 2, 3, 4 or a higher power of two.
        activation: makes the elementwise activation of one step (it commutes with the shuffle); None for none.
        last_shuffle: False leaves the last shuffle to the caller.

    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN", 2016.
    """
    layers: list[nn.Module] = []
    for factor in shuffle_factors(upscale):
        layers.append(nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1))
        if activation is not None:
            layers.append(activation())
        layers.append(nn.PixelShuffle(factor))
    if layers and not last_shuffle:
        layers.pop()
    return nn.Sequential(*layers)
