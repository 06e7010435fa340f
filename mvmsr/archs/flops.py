"""How much work a forward pass is, without doing it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def multiply_adds(module: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of the convolution and linear layers for one RGB image of `height` x `width`.

    Layers count as they are declared, whatever faster form they are computed in; normalisations, activations, sums
    and the products inside of attention do not count. The network runs on tensors without data, so that any size is
    counted at once; its parameters, buffers and mode stay as they are.

    >>> multiply_adds(nn.Conv2d(3, 8, 3, padding=1), 10, 10) == 3 * 8 * 9 * 100
    True
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _layer_multiply_adds(layer, inputs[0], output)

    layers = [part for part in module.modules() if isinstance(part, (*_CONVS, *_TRANSPOSED, nn.Linear))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    weightless = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    image = torch.empty(1, 3, height, width, dtype=dtype, device="meta")
    modes = {part: part.training for part in module.modules()}
    module.eval()  # a batch of one has no batch statistics
    try:
        with torch.no_grad():
            functional_call(module, weightless, (image,))
    finally:
        for handle in handles:
            handle.remove()
        for part, training in modes.items():
            part.training = training
    return total


def _layer_multiply_adds(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return y.numel() * layer.in_features
    # `weight` without its leading dimension: the taps of one output (of one input, where transposed).
    weight = layer.weight
    assert isinstance(weight, Tensor)
    taps = weight[0].numel()
    return taps * (x if isinstance(layer, _TRANSPOSED) else y).numel()
