"""How much work a forward pass is, without doing it."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(module: nn.Module, height: int, width: int, num_in_ch: int = 3) -> int:
    """Multiply-adds of one image of `height` x `width` through `module`.

    Counts convolutions, matrix products and attention; not normalisations, activations and sums. The network runs
    on tensors without data, so that any size is counted at once; its parameters, buffers and mode stay as they are.

    >>> multiply_adds(nn.Conv2d(3, 8, 3, padding=1), 10, 10) == 3 * 8 * 9 * 100
    True
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    weightless = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    image = torch.empty(1, num_in_ch, height, width, dtype=dtype, device="meta")
    was_training = {part: part.training for part in module.modules()}
    module.eval()  # a batch of one has no batch statistics
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(module, weightless, (image,))
    finally:
        for part, training in was_training.items():
            part.training = training
    return counter.get_total_flops() // 2
