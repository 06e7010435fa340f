"""A generator that is split over the processes of a run, with PyTorch's `fully_shard` (FSDP2).

Process r of W holds rows r of every parameter, of its gradient, of the optimizer's moments and of the average, each
tensor cut along its first dimension into W pieces as equal as they get. A block is put together when its forward or
backward pass begins and let go of when that ends, so at most one block is whole at a time, and one is on its way; what
belongs to no block is whole throughout the pass.

Gradients are **sums** over the processes (see `mvmsr.engine.distributed`): a block's are summed and cut in one
operation as soon as they are complete, so `Processes.exchange` has nothing left to do for them. PyTorch's own way
would be their mean.

What is not split: buffers, which every process has alike; parameters without dimensions, whose gradients
`Processes.exchange` sums; the other networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mvmsr.engine.distributed_group import SeveralProcesses, is_sharded

TESTED_VERSION = "2.14.1"
ELEMENTWISE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "SGD")
"""Optimizers that do to a piece of a tensor what they do to the whole."""
_NEEDED = (
    "all_gather_single",
    "reduce_scatter_single",
    "set_custom_all_gather",
    "set_custom_reduce_scatter",
    "set_force_sum_reduction_for_comms",
    "set_gradient_divide_factor",
)
_LARGE = 8
"""A block with more than this part of all parameters is split further, where it has blocks itself."""


def obstacle(compiles: bool, precision: str, optimizer: str) -> tuple[tuple[str, ...], str] | None:
    """Options key and message of what a sharded generator cannot have, or None.

    Args:
        compiles: whether the options ask for compilation (`auto` does not).
        precision: as picked for the device.
        optimizer: the generator's.
    """
    if not _is_available():
        return ("train", "shard_generator"), (
            f"needs torch.distributed.fsdp.fully_shard as newer versions of PyTorch have it, and this is "
            f"{torch.__version__}; install torch {TESTED_VERSION} or leave the option out"
        )
    if compiles:
        return ("compile",), "a sharded generator is not compiled; use compile: auto or train.shard_generator: false"
    if precision == "16-mixed":
        return ("train", "shard_generator"), "works in precision 32 and bf16-mixed only"
    if optimizer not in ELEMENTWISE:
        return ("train", "optim_g", "type"), (
            f"{optimizer} looks at more than single elements, so it cannot step pieces of tensors; with "
            f"train.shard_generator use one of {', '.join(ELEMENTWISE)}"
        )
    return None


def local(tensor: Tensor) -> Tensor:
    """This process's piece of a sharded tensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


class ShardedGenerator:
    """Splits a network over the processes, in place, and makes what is needed of it whole.

    Args:
        network: the same on all processes, on its device, with contiguous parameters.
        processes: those that share it.
    """

    def __init__(self, network: nn.Module, processes: SeveralProcesses) -> None:
        self.network, self.processes = network, processes
        self.plain = copy.deepcopy(network)
        """The network without FSDP's hooks and without the parameters' values."""
        _fill(self.plain, {n: p.detach().to("meta") for n, p in _named(network)}, dict(network.named_buffers()))
        _shard(network, processes)

    def average(self) -> nn.Module:
        """A frozen copy, sharded as the network is, to average its weights in; it holds tensors and cannot run."""
        tensors = {name: parameter.detach().clone() for name, parameter in _named(self.network)}
        return self._copy(tensors, self.network)

    def whole(self, source: nn.Module) -> nn.Module:
        """A frozen copy in eval mode with all of `source`'s weights, on every process; collective.

        Args:
            source: the network or its average.
        """
        tensors = {name: self.processes.whole(parameter.detach()) for name, parameter in _named(source)}
        return self._copy(tensors, source)

    def clip(self, max_norm: float | None, network: nn.Module, optimizer: Optimizer) -> Tensor:
        """The norm of the whole gradient, which is scaled down to `max_norm` where it is larger; collective.

        norm^2 = sum over processes of |pieces|^2 + |gradients that are not split|^2, in float64.
        """
        every = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        pieces = [local(g) for g in every if is_sharded(g)]
        others = [g for g in every if not is_sharded(g)]
        norm = (self.processes.sum(_square(pieces, network)) + _square(others, network)).sqrt()
        if max_norm is not None:
            # As torch.nn.utils.clip_grad_norm_ does.
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for gradient in [*pieces, *others]:
                gradient.mul_(factor.to(gradient.dtype))
        return norm.to(every[0].dtype) if every else norm.float()

    def _copy(self, tensors: Mapping[str, Tensor], source: nn.Module) -> nn.Module:
        result = copy.deepcopy(self.plain).eval()
        _fill(result, tensors, {name: buffer.clone() for name, buffer in source.named_buffers()})
        return result.requires_grad_(False)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The parts that are put together one at a time, inner ones before those that hold them.

    A block is a member of an `nn.Sequential` or `nn.ModuleList` that has parameters. One that holds more than an
    eighth of all parameters is split further where it has such lists itself (SwinIR's groups of layers). A network
    that uses a parameter in several places has no blocks: it is put together at once.
    """
    if len(list(network.parameters())) < len(_named(network)):
        return []
    return list(_blocks_below(network, _count(network) / _LARGE))


def _blocks_below(module: nn.Module, large: float) -> Iterator[nn.Module]:
    are_members = isinstance(module, (nn.Sequential, nn.ModuleList))
    for child in module.children():
        is_block = are_members and _count(child) > 0 and not isinstance(child, (nn.ModuleList, nn.ModuleDict))
        if not is_block or _count(child) > large:
            yield from _blocks_below(child, large)
        if is_block:
            yield child


def _shard(network: nn.Module, processes: SeveralProcesses) -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    device = next(network.parameters()).device
    mesh = DeviceMesh.from_group(processes.group, device.type)
    undivided = {p for p in network.parameters() if p.ndim == 0 or p.numel() == 0}
    parts = [*blocks(network), network]
    gather: Any = _Gather(processes)
    scatter: Any = _Scatter(processes)
    for part in parts:
        # The root too is let go of after its forward pass, so that between passes nothing but pieces is registered.
        sharded = fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=undivided)
        sharded.set_gradient_divide_factor(1.0)  # sums, not means
        sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other way of not dividing
        sharded.set_custom_all_gather(gather)
        sharded.set_custom_reduce_scatter(scatter)


class _Communication:
    """FSDP's two operations by way of `processes`, whose errors say which process is to blame.

    See `set_custom_all_gather` and `set_custom_reduce_scatter` of `torch.distributed.fsdp.FSDPModule`.
    """

    def __init__(self, processes: SeveralProcesses) -> None:
        self.processes = processes

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class _Gather(_Communication):
    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False) -> None:
        self.processes.gather_into(output_tensor, input_tensor)


class _Scatter(_Communication):
    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False
    ) -> None:
        self.processes.sum_and_scatter(output_tensor, input_tensor)


def _is_available() -> bool:
    if not torch.distributed.is_available():
        return False
    try:
        from torch.distributed.fsdp import FSDPModule
    except ImportError:
        return False
    offered = {*dir(FSDPModule), *dir(torch.distributed)}
    return offered.issuperset(_NEEDED)


def _named(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Every parameter by every name it has."""
    return list(network.named_parameters(remove_duplicate=False))


def _fill(network: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    """Give the network's parameters and buffers these tensors; a parameter with several names stays one."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for name, old in _named(network):
        new = made.setdefault(old, nn.Parameter(parameters[name], requires_grad=old.requires_grad))
        owner, _, last = name.rpartition(".")
        setattr(network.get_submodule(owner), last, new)
    for name, buffer in buffers.items():
        owner, _, last = name.rpartition(".")
        setattr(network.get_submodule(owner), last, buffer)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _square(tensors: Sequence[Tensor], network: nn.Module) -> Tensor:
    """The sum of all squares, float64, on the network's device."""
    norms = torch._foreach_norm([t for t in tensors if t.numel()]) if any(t.numel() for t in tensors) else []
    if not norms:
        return torch.zeros((), dtype=torch.float64, device=next(network.parameters()).device)
    return torch.stack(list(norms)).double().square().sum()
