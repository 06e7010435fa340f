"""Exponential moving average of a network: parameters averaged, buffers followed."""

from __future__ import annotations

import copy

import torch
from torch import nn


def make_ema(network: nn.Module) -> nn.Module:
    """A frozen copy of `network` in eval mode, where its average begins."""
    average = copy.deepcopy(network).eval()
    return average.requires_grad_(False)


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """`average = decay * average + (1 - decay) * network`, in place.

    BatchNorm's running statistics belong to the averaged weights as much as to the others; they are averaged too.
    Integer buffers (counters) are copied.
    """
    mine = [*average.parameters(), *average.buffers()]
    theirs = [*network.parameters(), *network.buffers()]
    pairs = list(zip(mine, theirs, strict=True))
    smooth = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in smooth], [b.detach() for _, b in smooth], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
