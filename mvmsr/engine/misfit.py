"""In one sentence, why a state does not fit a network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def misfit(state: Mapping[str, Tensor], network: nn.Module) -> str:
    """How many entries differ, and the first of them with its shape on either side; empty where all have the same.

    >>> misfit({"weight": torch.zeros(4, 2)}, nn.Linear(2, 3))
    '2 of 2 entries differ, the first being weight: (4, 2) in the file, (3, 2) in the network'
    """
    own = network.state_dict()
    names = [*own, *(name for name in state if name not in own)]
    there = {name: tuple(state[name].shape) if name in state else None for name in names}
    here = {name: tuple(own[name].shape) if name in own else None for name in names}
    differing = [name for name in names if there[name] != here[name]]
    if not differing:
        return ""
    first = differing[0]
    sides = f"{there[first] or _absent(there[first])} in the file, {here[first] or _absent(here[first])} in the network"
    return f"{len(differing)} of {len(names)} entries differ, the first being {first}: {sides}"


def _absent(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "one number"
