"""PReLU with one weight, quick on the CPU: PyTorch's own has no vectorised gradient there."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _ScalarPReLU(Function):
    """Leaky ReLU whose slope is a parameter, in as few passes over the maps as there can be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        slope = float(weight)
        y = F.leaky_relu(x, slope)
        # A positive slope keeps every sign, so the output, which the next layer stores anyway, tells all.
        ctx.slope, ctx.kept_output = slope, slope > 0
        ctx.save_for_backward(y if ctx.kept_output else x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (kept,) = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.ops.aten.leaky_relu_backward(grad, kept, ctx.slope, ctx.kept_output)
        if ctx.needs_input_grad[1]:
            total = (grad * kept.clamp_max(0)).sum(dtype=torch.promote_types(grad.dtype, torch.float32))
            grad_weight = (total / ctx.slope if ctx.kept_output else total).reshape(1)
        return grad_x, grad_weight


class ScalarPReLU(nn.PReLU):
    """`max(x, 0) + weight * min(x, 0)` with one learned weight, from 0.25."""

    def __init__(self) -> None:
        super().__init__(num_parameters=1, init=0.25)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # fused with its neighbours, where PyTorch's PReLU would stand alone
            return torch.where(x > 0, x, self.weight.to(x.dtype) * x)
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        return _ScalarPReLU.apply(x, self.weight)
