"""NMD: NatSR's natural manifold discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mvmsr.hardware import full_float32
from mvmsr.registry import ARCHS


@ARCHS.register()
class NMD(nn.Module):
    """(N, num_in_ch, H, W) in [0, 1] -> (N, 1) logits: positive for natural images, negative for noisy or blurry ones.

    Four stages of [two 3x3 convolutions with ReLU, 2x2 max pooling], one 3x3 convolution to a map, its spatial mean.
    4,689,985 parameters by default; any image of at least 16 x 16 pixels. ReLU layers start from He's normal
    initialisation, the last from Glorot's uniform, biases from 0.

    Under autocast it computes in its weights' precision nevertheless: what it learns to see in the end, noise of 0.002,
    lies below half of bfloat16's step. (Its first convolution alone in float32 leaves errors larger than the signal.)
    That takes about twice the time of bfloat16 on a CPU. A GPU's forward pass is in full float32 too, not in TF32.

    Args:
        num_in_ch: channels of the images.
        num_feat: channels of the first stage; they double three times.

    Source: Soh et al. 2019, section 3.2; https://github.com/JWSoh/NatSR
    """

    def __init__(self, num_in_ch: int = 3, num_feat: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_ch = num_in_ch
        for factor in (1, 2, 4, 8):
            for _ in range(2):
                conv = nn.Conv2d(in_ch, factor * num_feat, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                layers += [conv, nn.ReLU(inplace=True)]
                in_ch = factor * num_feat
            layers.append(nn.MaxPool2d(2))
        last = nn.Conv2d(in_ch, 1, 3, padding=1)
        nn.init.xavier_uniform_(last.weight)
        self.features = nn.Sequential(*layers, last)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        precision = next(self.features.parameters()).dtype
        # Autocast does not know the device of tensors without data.
        with torch.autocast("cpu" if image.is_meta else image.device.type, enabled=False), full_float32():
            return self.features(image.to(precision)).mean((2, 3))
