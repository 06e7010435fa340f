"""States of a sharded network and its optimizer, to and from the plain tensors that checkpoints hold."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mvmsr.engine.distributed_group import SeveralProcesses, is_sharded


def whole_state(state: Any, processes: SeveralProcesses) -> Any:
    """The nested state with plain tensors only: sharded ones whole, in the first process's host memory; collective.

    The other processes, which write nothing, get None in their place: one tensor at a time is whole on them.
    """
    if isinstance(state, Tensor):
        if not is_sharded(state):
            return state
        tensor = processes.whole(state.detach())
        return tensor.cpu() if processes.is_first else None
    if isinstance(state, dict):
        result = copy.copy(state)  # keeps the type and what a module's state carries beside its entries
        for key, value in state.items():
            result[key] = whole_state(value, processes)
        return result
    if isinstance(state, list):
        return [whole_state(value, processes) for value in state]
    return state


def share_of_network(state: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """A network's plain state as this process's network takes it; what does not fit is left for it to refuse."""
    mine, result = network.state_dict(), copy.copy(state)  # which carries versions beside its entries
    for name, value in state.items():
        result[name] = _share(value, mine.get(name))
    return result


def share_of_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's plain state as this process's optimizer takes it: tensors of a parameter's shape are cut up."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    entries = {}
    for index, values in state["state"].items():
        like = parameters[index] if index < len(parameters) else None
        entries[index] = {key: _share(value, like) for key, value in values.items()}
    return {**state, "state": entries}


def _share(value: Any, like: Any) -> Any:
    if not isinstance(value, Tensor) or not isinstance(like, Tensor) or not is_sharded(like):
        return value
    if value.shape != like.shape:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    # Every process has all of it, so nothing travels; a copy, or the piece would keep the whole alive.
    share = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return share.clone()
