"""NSRNet: the fractal residual dense generator of NatSR."""

from __future__ import annotations

from torch import Tensor, nn

from mvmsr.archs.dense_block import ResidualDenseBlock
from mvmsr.archs.global_skip import GlobalSkip
from mvmsr.archs.initial_weights import start_small
from mvmsr.archs.upsampler import make_upsampler
from mvmsr.registry import ARCHS


@ARCHS.register()
class NSRNet(nn.Module):
    """(N, num_in_ch, h, w) in [0, 1] -> (N, num_out_ch, h*scale, w*scale), not clamped.

    Four pairs of residual dense blocks (of `num_layer` layers, residual factor 0.1) under skip connections over one,
    two and all four pairs. There is no activation outside the blocks. 4,959,235 parameters at x4, 4,811,523 at x2.
    Convolutions before a ReLU start from He's normal initialisation, the others from Glorot's uniform, biases from 0.

    Args:
        num_in_ch: channels of the input.
        num_out_ch: channels of the output.
        num_feat: channels of the feature maps and of each dense layer.
        num_layer: 3x3 convolutions in a block.
        upscale: 1, 2, 3, 4 or 8.
        global_skip: what is added to the output, as in `GlobalSkip`; the paper's network adds nothing. With a skip all
            initial weights are small (`start_small`).

    Source: Soh et al., "Natural and Realistic Single Image Super-Resolution with Explicit Natural Manifold
    Discrimination", 2019; https://github.com/JWSoh/NatSR
    """

    num_block = 8  # fixed by the wiring in `forward`

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_layer: int = 5,
        upscale: int = 4,
        global_skip: str = "none",
    ) -> None:
        super().__init__()
        self.scale = upscale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(num_feat, num_layer, num_feat, residual_scale=0.1) for _ in range(self.num_block)
        )
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsampler = make_upsampler(num_feat, upscale)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)
        self.global_skip = GlobalSkip(global_skip, upscale, num_in_ch, num_out_ch)
        self._initialise()
        if global_skip != "none":
            self.apply(start_small)

    def forward(self, lq: Tensor) -> Tensor:
        b = self.blocks
        first = self.conv_first(lq)
        after2 = b[1](b[0](first)) + first
        after4 = b[3](b[2](after2)) + after2 + first
        after6 = b[5](b[4](after4)) + after4
        after8 = b[7](b[6](after6)) + after6 + after4 + first
        return self.global_skip(self.conv_last(self.upsampler(self.conv_body(after8) + first)), lq)

    def _initialise(self) -> None:
        before_relu = {id(layer) for block in self.blocks for layer in block.get_submodule("layers").children()}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if id(module) in before_relu:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
