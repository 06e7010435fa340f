"""Exponential moving average of a network: parameters averaged, buffers followed."""

from __future__ import annotations

import copy

import torch
from torch import nn

from mvmsr.engine.sharding import local


def make_ema(network: nn.Module) -> nn.Module:
    """A frozen copy of `network` in eval mode, where its average begins."""
    average = copy.deepcopy(network).eval()
    return average.requires_grad_(False)


def ema_decay_at(decay: float, updates: int) -> float:
    """The decay for the next update after `updates` of them: small at first, so that the average forgets its start.

    min(decay, (1 + t) / (10 + t)). Without this, 0.999 would still hold 8 % of the random initial weights after 2,500
    iterations, which costs several decibels.

    >>> ema_decay_at(0.999, 0), ema_decay_at(0.999, 90), ema_decay_at(0.999, 100_000)
    (0.1, 0.91, 0.999)
    """
    return min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """`average = decay * average + (1 - decay) * network`, in place.

    BatchNorm's running statistics belong to the averaged weights as much as to the others; they are averaged too.
    Integer buffers (counters) are copied. Of a sharded network each process averages its pieces.
    """
    mine = [*map(local, average.parameters()), *average.buffers()]
    theirs = [*map(local, network.parameters()), *network.buffers()]
    pairs = list(zip(mine, theirs, strict=True))
    smooth = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in smooth], [b.detach() for _, b in smooth], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
