"""Batch normalisation by the statistics of the whole batch, which lies on several processes.

PyTorch's `SyncBatchNorm` runs on GPUs only; this one runs wherever its processes can talk to each other. Values and
gradients are those of `nn.BatchNorm2d` in one process: with x in n elements a channel over all processes,

    y = weight * (x - mean) / sqrt(var + eps) + bias
    dL/dx = weight / sqrt(var + eps) * (dy - sum(dy) / n - x_hat * sum(dy * x_hat) / n),  sums over all processes.

dL/dweight and dL/dbias are sums over this process's elements: gradients are summed over processes later.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mvmsr.engine.distributed import Processes


class _Normalise(Function):
    """(x, weight, bias) -> (y, mean, biased variance); the statistics are those of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor]:
        # In the weights' precision, whatever x is in. Momentum 0 leaves the two dummies as they are.
        mean, var = torch.ops.aten.batch_norm_update_stats(x, torch.zeros_like(weight), torch.ones_like(weight), 0.0)
        # Means of squares would cancel; variances about their own means, and of those means, do not.
        means, variances = processes.gather(torch.stack([mean, var])[None]).unbind(1)
        mean = means.mean(0)
        var = variances.mean(0) + (means - mean).square().mean(0)
        y = F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.processes = eps, processes
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        # As if the statistics were constants; their share in the gradient of x comes after it.
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        if ctx.needs_input_grad[0]:
            sum_x_hat, sum_one = ctx.processes.sum(torch.stack([grad_weight, grad_bias])).unbind()
            inverse = torch.rsqrt(var + ctx.eps)
            factor = weight * inverse / (x.numel() // x.shape[1] * ctx.processes.size)
            slope = _per_channel(-factor * inverse * sum_x_hat, x)
            constant = _per_channel(-factor * sum_one, x) - slope * _per_channel(mean, x)
            grad_x = grad_x.to(weight.dtype).add_(constant).addcmul_(x.to(weight.dtype), slope).to(x.dtype)
        gradients = [grad_x, grad_weight, grad_bias, None, None]
        return tuple(g if needed else None for g, needed in zip(gradients, ctx.needs_input_grad, strict=True))


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


class SynchronisedBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d`, `2d` or `3d` over the batches of all processes, which have the same size.

    Parameters and buffers have the names and shapes of the layer that it replaces. In evaluation mode it is that layer.

    Args:
        layer: the batch normalisation to replace; its parameters and buffers are taken over, not copied.
        processes: those that share the batch.
    """

    def __init__(self, layer: _BatchNorm, processes: Processes) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(self, name, buffer)
        self.training = layer.training
        self._processes = processes

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected an input of shape (N, C, ...), got {tuple(input.shape)}")

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        count = input.numel() // input.shape[1] * self._processes.size
        if count == 1:
            raise ValueError(f"expected more than one value a channel in training, got shape {tuple(input.shape)}")
        weight, bias = self.weight, self.bias
        if weight is None:
            dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
            weight = torch.ones(self.num_features, dtype=dtype, device=input.device)
            bias = torch.zeros_like(weight)
        output, mean, var = _Normalise.apply(input, weight, bias, self.eps, self._processes)
        if self.track_running_stats:
            self._follow(mean, var * (count / (count - 1)))
        return output

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), momentum)


def synchronise_batch_norm(network: nn.Module, processes: Processes) -> nn.Module:
    """The network with every batch normalisation in it made one over all processes; changed in place.

    `nn.SyncBatchNorm` layers are replaced too: two kinds beside each other would be two conventions of gradients.
    Normalisation that is no layer of its own (`F.batch_norm` in a `forward`) stays that of each process.
    """
    if isinstance(network, _BatchNorm):
        return SynchronisedBatchNorm(network, processes)
    for name, child in network.named_children():
        replaced = synchronise_batch_norm(child, processes)
        if replaced is not child:
            setattr(network, name, replaced)
    return network
