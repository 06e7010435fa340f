"""How many parameters a network has."""

from __future__ import annotations

from torch import nn


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, frozen ones too, shared ones once; buffers (running means and the like) do not count.

    >>> count_parameters(nn.Conv2d(3, 8, 3))
    224
    """
    return sum(p.numel() for p in module.parameters())
