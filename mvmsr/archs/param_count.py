"""How many numbers a network learns."""

from __future__ import annotations

from torch import nn


def count_parameters(module: nn.Module, trainable_only: bool = False) -> int:
    """Number of parameters, each shared one once; buffers (running means and the like) are not counted.

    >>> count_parameters(nn.Conv2d(3, 8, 3))
    224
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)
