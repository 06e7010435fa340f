"""Files may describe the networks they hold weights for, but no network much larger than those weights is built.

A few bytes of a hostile file can name a network of any size: an argument `num_feat: 1000000`, a layer called
`body.999999999.weight`. While such a network is built, its tensors and modules are counted, and building stops before
it takes much more memory than the file's weights account for.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

_FACTOR = 4
"""Values that may be computed for each value of the state: parameters are made, filled and sometimes scaled."""
_MODULES_PER_TENSOR, _SPARE_MODULES = 5, 300  # networks have up to two and a half
_LONGEST_NUMBER = 9
_RANGES = ("arange", "linspace", "eye", "logspace", "randperm")


class OutgrownError(ValueError):
    """A network is much larger than the state that it is built for."""


@contextmanager
def bounded_by(state: Mapping[str, Tensor], spare: int) -> Iterator[None]:
    """Inside, this thread makes no network that is much larger than `state`.

    Args:
        spare: values beside the parameters that a network may compute, such as tables of positions.

    Raises:
        OutgrownError: inside, when it would; on entry, when a tensor's name counts more layers than the state could
            hold (spandrel reads scales and depths off these numbers, and may work on them before it builds anything).
    """
    values = spare + _FACTOR * sum(tensor.numel() for tensor in state.values())
    most, thread, modules = _SPARE_MODULES + _MODULES_PER_TENSOR * len(state), threading.get_ident(), 0

    for name in state:
        if any(part.isdecimal() and (len(part) > _LONGEST_NUMBER or int(part) > most) for part in name.split(".")):
            raise OutgrownError(f"tensor {name[:100]} has a number far beyond the {len(state):,} tensors of the file")

    def count(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal modules
        modules += threading.get_ident() == thread
        if modules > most:
            raise OutgrownError(f"the network has more than {most:,} parts for the {len(state):,} tensors of the file")

    handle = register_module_module_registration_hook(count)
    try:
        with _Counting(values):
            yield
    finally:
        handle.remove()


class _Counting(TorchDispatchMode):
    """Counts the values that operations make; those of a given size before they are made."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.made = most, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if not any(isinstance(part, Tensor) for part in args):  # it makes a tensor from numbers, of a size they tell
            self._check(self.made + _announced(name, args))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not name.endswith("_"):  # what ends in `_` works in place
            self.made += result.untyped_storage().nbytes() // max(result.element_size(), 1)
            self._check(self.made)
        return result

    def _check(self, values: int) -> None:
        if values > self.most:
            raise OutgrownError(f"the network needs more than {self.most:,} values, far more than the file holds")


def _announced(name: str, args: tuple[Any, ...]) -> int:
    """Values of the tensor that an operation without tensors is going to make."""
    if args and isinstance(args[0], (list, tuple)) and all(isinstance(side, int) for side in args[0]):
        return math.prod(args[0])
    if name in _RANGES:
        numbers = [abs(number) for number in args if isinstance(number, (int, float)) and math.isfinite(number)]
        return int(max(numbers, default=0)) ** (2 if name == "eye" else 1)
    return 0
