"""What a run asks of the processes that share it, and the answers where there is only one.

Every process holds all networks and takes its share of every batch. The mathematics is that of one process with the
whole batch:

    Let x_r be what process r computes from its pictures (embeddings, logits) and L(x_1, ..., x_W) an objective.
    dL/dtheta = sum over r of dL/dx_r * dx_r/dtheta, so process r needs dL/dx_r alone, and gradients are **summed**.

- `gather` returns the whole x on every process. All of them then compute the same L; its gradient with respect to x is
  the same everywhere, and the backward pass of `gather` keeps the process's own rows. L is thus counted once in the
  sum. (A gather whose backward pass adds up the rows of all processes would count it W times, and averaging the
  gradients afterwards, as `DistributedDataParallel` does, would divide by W again; with both, a term that is not
  gathered would be W times too small beside one that is.)
- A term that is the mean over pictures needs no gather: each process takes the mean of its own, over W
  (`evaluate_terms`).
- Batch normalisation exchanges its statistics forward and their gradients backward (`distributed_batch_norm`), which
  is the same sum.
- `exchange` sums the gradients, once for each update, after all of its backward passes. (Those of a generator that is
  split over the processes are summed during its backward passes: `sharding`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


class Processes:
    """The processes of a run; this class is a run of one, which shares nothing with anybody.

    All methods but `at` are collective: every process calls them, in the same order.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (N, ...) of all processes, (size * N, ...), in the order of the batch; N is equal everywhere.

        Differentiable under this module's convention: the gradient is that of this process's rows.
        """
        return rows

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes, without gradient."""
        return tensor

    def exchange(self, parameters: Sequence[nn.Parameter], values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum the parameters' gradients over the processes, in place, and return the means of `values` over them.

        Parameters that are split over the processes have sums for gradients already and are left alone.
        """
        return values

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place."""

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return number

    def collect(self, value: T) -> list[T]:
        """Everybody's value, by rank."""
        return [value]

    def first(self, what: str, function: Callable[[], T]) -> T:
        """What `function` returns on the first process, while the others wait, however long it takes.

        Args:
            what: for messages, as in "saving the checkpoint".

        Raises:
            OtherProcessError: on the others, where it raised on the first.
        """
        return function()

    def meet(self, what: str) -> None:
        """Return when every process has come here, however long one takes that is alive."""

    def at(self, what: str, patient: bool = False) -> None:
        """Say what this process is about to do, for messages about it.

        Args:
            patient: whether processes may take very different times for it (compilation, validation).
        """

    @contextmanager
    def running(self) -> Iterator[None]:
        """While inside, an error of this process ends the others with its name; without one, all leave together."""
        yield

    def __deepcopy__(self, memo: dict[int, Any]) -> Processes:
        return self  # layers refer to it; copies of them refer to the same processes


ALONE = Processes()
"""A run of one process."""


class OtherProcessError(RuntimeError):
    """Another process of the run failed, died or hangs; the message names it. The last checkpoint is good."""


def fingerprint(tensors: Sequence[Tensor]) -> tuple[float, ...]:
    """Numbers that are equal for equal tensors, and for hardly any others."""
    return tuple(float(tensor.detach().double().sum()) for tensor in tensors)
