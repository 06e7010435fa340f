"""Initial weights of networks that correct an enlargement of their input."""

from __future__ import annotations

from torch import nn


def start_small(module: nn.Module) -> None:
    """A tenth of He's normal initialisation for a convolution, biases zero; for `nn.Module.apply`.

    The first output is then next to nothing beside the skip connection, and residual blocks next to the identity.

    Source: Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", 2018, section 3.1.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        module.weight.data.mul_(0.1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
