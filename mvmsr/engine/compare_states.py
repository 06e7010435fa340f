"""Where two runs differ: nested states bit for bit, and logged records but for what depends on the clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MEASURED = ("step_seconds", "data_seconds", "memory_mib")
"""Logged values that two equal runs need not agree on."""


def state_differences(a: Any, b: Any, path: str = "state") -> Iterator[str]:
    """One line for every place where two nested states are not bit for bit the same, in the order of `a`.

    Tensors are compared by their bits, so that equal NaNs are equal and 0.0 is not -0.0.
    """
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if line := _tensor_difference(a, b):
            yield f"{path}: {line}"
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            below = f"{path}.{key}" if path else str(key)
            if key not in a or key not in b:
                yield f"{below}: only the {'first' if key in a else 'second'} has it"
            else:
                yield from state_differences(a[key], b[key], below)
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            yield f"{path}: {len(a)} and {len(b)} items"
        for k, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from state_differences(x, y, f"{path}[{k}]")
    elif type(a) is not type(b) or repr(a) != repr(b):  # repr tells 0.0 from -0.0, and nan is nan
        yield f"{path}: {a!r} and {b!r}"


def record_differences(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line for every logged value that differs, by iteration; what `MEASURED` names is left out."""
    for one, two in zip(a, b, strict=False):
        if one["iter"] != two["iter"]:
            yield f"a record of iteration {one['iter']} beside one of iteration {two['iter']}"
            return
        for name in [*one, *(name for name in two if name not in one)]:
            x, y = one.get(name), two.get(name)
            if name not in MEASURED and repr(x) != repr(y):
                yield f"iteration {one['iter']}, {name}: {x!r} and {y!r}"
    if len(a) != len(b):
        yield f"{len(a)} and {len(b)} records"


def _tensor_difference(a: Tensor, b: Tensor) -> str | None:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
    bits_a, bits_b = (t.detach().cpu().contiguous().view(-1).view(torch.uint8) for t in (a, b))
    if torch.equal(bits_a, bits_b):
        return None
    if not a.dtype.is_floating_point:
        return f"{int((a != b).sum())} of {a.numel()} values differ"
    distance = (a.double() - b.double()).abs()
    return f"{int((a != b).sum())} of {a.numel()} values differ, by up to {distance.max().item():.3g}"
