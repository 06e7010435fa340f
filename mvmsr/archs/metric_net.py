"""The metric network: images become points whose Euclidean distances are learned."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mvmsr.archs.spatial_mean import SpatialMean
from mvmsr.archs.strided_conv import StridedConv2d
from mvmsr.registry import ARCHS

Norm = Literal["none", "batch", "group", "instance"]
Pool = Literal["max", "avg"]
InputRange = Literal["zero_one", "minus_one_one"]
Init = Literal["default", "kaiming", "detail"]

_MOMENTUM = 0.03
"""Momentum of the running statistics. A single picture of high contrast can multiply those of a small batch, and with
PyTorch's 0.1 the distances of the next ten iterations are then wrong in evaluation mode."""
_DETAIL_GAIN = 4.0
"""Factor of the first filters under `init="detail"`: larger ones keep their direction for longer under Adam's steps."""


@ARCHS.register()
class MetricNet(nn.Module):
    """(N, num_in_ch, H, W) images in [0, 1] -> (N, embedding_dim) embeddings.

    `num_layer` convolutions 4x4 of stride 2 with LeakyReLU(0.2), of num_feat * 1, 2, 4, ... channels; pooling; one
    linear layer.

    The defaults are a variant that trains well. The network as the manifold matching paper's released code has it,
    carried over to 192-pixel patches (2,935,296 parameters), is

        MetricNet(input_size=192, norm="none", pool="max", input_range="zero_one", init="default")

    and with `input_size=None` the same for any size (2,804,224 parameters). Its embeddings of different images
    start about 0.01 apart, so that matching them moves nothing until the metric network has grown them.

    With `norm="batch"` an embedding depends on the whole batch: **embed real and generated images concatenated in
    one batch**. Apart, each set is normalised by itself, and the difference that the distance should see is lost.

    Args:
        num_in_ch: channels of the images.
        embedding_dim: dimension of the embeddings.
        num_feat: channels of the first convolution.
        num_layer: number of convolutions; the images need at least 2**num_layer pixels on each side.
        input_size: height and width of all images, then the last maps are pooled 2x2 and flattened; None to take any
            size and pool the last maps to one value a channel.
        norm: normalisation after every convolution but the first ("group": 16 channels a group).
        pool: how the last maps are pooled.
        input_range: the range that the first convolution sees; the input is always in [0, 1].
        init: "kaiming" draws weights of gain 1 through the network, so that embeddings start at the scale of 1;
            "default" is PyTorch's, under which they shrink layer by layer. "detail" is "kaiming", but the first filters
            start blind to brightness and slopes, which they may learn to see later: a good generator's pictures differ
            from real ones in detail alone, and without this the pictures' contrast drowns that difference for hundreds
            of iterations. A generator that is still blurred it sees through at once, and matching then outweighs the
            pixel loss: from scratch, "kaiming" is better.
        unit_length: divide every embedding by its Euclidean length, as the released code does for StyleGAN2 (there with
            256 dimensions, a margin of 3 and softplus). Distances are then 2 at most, squared ones 4, and margins of
            more than 4 are never reached.

    Raises:
        ValueError: an unknown option, an `input_size` too small for the layers, or images of another size.

    Source: Dai and Hang, "Manifold Matching via Deep Metric Learning for Generative Modeling", 2021;
    https://github.com/dzld00/pytorch-manifold-matching (`ML64`).
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        embedding_dim: int = 32,
        num_feat: int = 32,
        num_layer: int = 5,
        input_size: int | None = None,
        norm: Norm = "batch",
        pool: Pool = "avg",
        input_range: InputRange = "minus_one_one",
        init: Init = "kaiming",
        unit_length: bool = False,
    ) -> None:
        super().__init__()
        for name, value, accepted in (
            ("norm", norm, get_args(Norm)),
            ("pool", pool, get_args(Pool)),
            ("input_range", input_range, get_args(InputRange)),
            ("init", init, get_args(Init)),
        ):
            if value not in accepted:
                raise ValueError(f"MetricNet: {name} must be one of {', '.join(accepted)}, got {value!r}")
        if num_layer < 1:
            raise ValueError(f"MetricNet: num_layer must be at least 1, got {num_layer}")
        self.input_size = input_size
        self.input_range = input_range
        self.unit_length = unit_length
        self.smallest = 2**num_layer * (2 if input_size is not None or norm == "instance" else 1)
        if input_size is not None and input_size < self.smallest:
            raise ValueError(
                f"MetricNet: input_size must be at least {self.smallest} for num_layer={num_layer}, got {input_size}; "
                "use fewer layers or larger patches"
            )

        layers: list[nn.Module] = []
        in_ch = num_in_ch
        for k in range(num_layer):
            out_ch = num_feat * 2**k
            layer_norm = _make_norm(norm, out_ch) if k else None
            layers.append(StridedConv2d(in_ch, out_ch, 4, bias=layer_norm is None))
            if layer_norm is not None:
                layers.append(layer_norm)
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            in_ch = out_ch
        self.features = nn.Sequential(*layers)
        if input_size is None:
            self.pool: nn.Module = nn.AdaptiveMaxPool2d(1) if pool == "max" else SpatialMean()
            cells = 1
        else:
            self.pool = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
            cells = (input_size // 2**num_layer // 2) ** 2
        self.embed = nn.Linear(in_ch * cells, embedding_dim)
        if init != "default":
            self._initialise()
        if init == "detail":
            first, *_ = self.features.parameters()
            _blind_to_slopes(first)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.input_size is not None and (height, width) != (self.input_size, self.input_size):
            raise ValueError(
                f"MetricNet was built for images of {self.input_size}x{self.input_size}, got {height}x{width}; "
                "set input_size to the training patch, or to null for any size"
            )
        if min(height, width) < self.smallest:
            raise ValueError(
                f"MetricNet needs images of at least {self.smallest}x{self.smallest}, got {height}x{width}; "
                "use larger patches or a smaller num_layer"
            )
        if self.input_range == "minus_one_one":
            images = torch.add(images.new_full((), -1.0), images, alpha=2)  # 2 * images - 1 in one pass
        embeddings = self.embed(self.pool(self.features(images)).flatten(1))
        return nn.functional.normalize(embeddings) if self.unit_length else embeddings

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def _blind_to_slopes(filters: Tensor) -> None:
    """Subtract the best fitting plane from every K x K filter, then scale all to `_DETAIL_GAIN` times their norm."""
    norm = filters.norm()
    places = torch.arange(filters.shape[-1]) - (filters.shape[-1] - 1) / 2
    flat = torch.ones_like(places)
    for plane in (torch.outer(a, b).to(filters) for a, b in ((flat, flat), (flat, places), (places, flat))):
        filters -= (filters * plane).sum((-2, -1), keepdim=True) / plane.square().sum() * plane
    filters *= _DETAIL_GAIN * norm / filters.norm()


def _make_norm(norm: Norm, num_feat: int) -> nn.Module | None:
    if norm == "batch":
        return nn.BatchNorm2d(num_feat, momentum=_MOMENTUM)
    if norm == "group":
        return nn.GroupNorm(max(1, num_feat // 16), num_feat)
    if norm == "instance":
        return nn.InstanceNorm2d(num_feat, affine=True)
    return None
