"""Several processes that share a run, over `torch.distributed`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mvmsr.engine.distributed import OtherProcessError, Processes
from mvmsr.engine.distributed_watch import BEAT_SECONDS, Watch
from mvmsr.engine.stop import Stopped

T = TypeVar("T")

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 3600.0
"""How long a process that shows signs of life is waited for where differences are expected."""
_BUCKET_ELEMENTS = 2**23
"""Gradients travel in pieces of about this size, one being copied while another is under way."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a piece of it only."""
    return hasattr(tensor, "to_local")  # a DTensor; to import that class takes a third of a second


class _Gather(Function):
    """All processes' rows; backward, this process's part of the gradient (see `mvmsr.engine.distributed`)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: SeveralProcesses) -> Tensor:
        """All rows, those of the first process first."""
        ctx.first, ctx.count = processes.rank * len(rows), len(rows)
        return processes.gather_plain(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """This process's share of the gradient."""
        return grad.narrow(0, ctx.first, ctx.count), None


class SeveralProcesses(Processes):
    """A run of several processes; `torch.distributed` must be initialised.

    Args:
        patience_seconds: how long a process waits in a collective operation before it asks who is missing.
    """

    def __init__(self, patience_seconds: float) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        timeout = timedelta(seconds=patience_seconds)
        # The default group has a timeout for slow starts. Messages of the host go by gloo, so that they wait neither
        # for a GPU nor are ended with it by NCCL's own watchdog.
        self._tensors: Any = distributed.new_group(timeout=timeout)
        on_host = distributed.get_backend() == "gloo"
        self._host: Any = self._tensors if on_host else distributed.new_group(backend="gloo", timeout=timeout)
        store = _own_store(self.rank)
        self._meetings = store[0]
        self._watch = Watch(store[1], self.rank, self.size, patience_seconds)
        self._patient = True

    def gather(self, rows: Tensor) -> Tensor:
        """See `Processes.gather`."""
        return _Gather.apply(rows, self)

    def gather_plain(self, rows: Tensor) -> Tensor:
        """As `gather`, without a gradient."""
        mine = rows.detach().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        self._do(lambda: distributed.all_gather(parts, mine, group=self._tensors))
        return torch.cat(parts)

    def sum(self, tensor: Tensor) -> Tensor:
        """See `Processes.sum`."""
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        self._do(lambda: distributed.all_reduce(total, group=self._tensors))
        return total

    def exchange(self, parameters: Sequence[nn.Parameter], values: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Processes.exchange`."""
        # Those of a sharded network are sums already (see `mvmsr.engine.sharding`).
        gradients = [p.grad for p in parameters if p.grad is not None and not is_sharded(p)]
        shares = torch.stack([value.detach().double() / self.size for value in values.values()])
        under_way = []
        for bucket in [*_buckets(gradients), [shares]]:
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            work = self._do(partial(distributed.all_reduce, flat, group=self._tensors, async_op=True))
            under_way.append((bucket, flat, work))
        for bucket, flat, work in under_way:
            self._do(work.wait, counts=False)
            pieces = flat.split([gradient.numel() for gradient in bucket])
            torch._foreach_copy_(bucket, [piece.view_as(g) for piece, g in zip(pieces, bucket, strict=True)])
        return {name: mean.to(values[name].dtype) for name, mean in zip(values, shares.unbind(), strict=True)}

    @property
    def group(self) -> Any:
        """The group of `torch.distributed` that tensors travel in."""
        return self._tensors

    def gather_into(self, whole: Tensor, piece: Tensor) -> None:
        """Put the processes' pieces, of one size, into `whole` one behind the other; both are flat."""
        self._do(lambda: distributed.all_gather_single(whole, piece, group=self._tensors))

    def sum_and_scatter(self, piece: Tensor, whole: Tensor) -> None:
        """Sum `whole` over the processes, and put this process's piece of the sum into `piece`; both are flat."""
        self._do(lambda: distributed.reduce_scatter_single(piece, whole, group=self._tensors))

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor of which each process holds a piece (a `DTensor`); any other tensor as it is."""
        return self._do(tensor.full_tensor) if is_sharded(tensor) else tensor  # type: ignore[attr-defined]

    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """See `Processes.copy_from_first`."""
        with torch.no_grad():
            for tensor in tensors:
                values = tensor.detach().contiguous()
                self._do(partial(distributed.broadcast, values, src=0, group=self._tensors))
                tensor.copy_(values)

    def largest(self, number: int) -> int:
        """See `Processes.largest`."""
        value = torch.tensor(number, dtype=torch.int64)
        self._do(lambda: distributed.all_reduce(value, op=distributed.ReduceOp.MAX, group=self._host))
        return int(value)

    def collect(self, value: T) -> list[T]:
        """See `Processes.collect`."""
        values: list[Any] = [None] * self.size
        self._do(lambda: distributed.all_gather_object(values, value, group=self._host))
        return values

    def first(self, what: str, function: Callable[[], T]) -> T:
        """See `Processes.first`."""
        outcome: list[Any] = [None, None]
        failure: Exception | None = None
        if self.rank == 0:
            try:
                outcome[0] = function()
            except Exception as error:
                failure, outcome[1] = error, f"{type(error).__name__}: {error}"
        self.meet(what)
        self._do(lambda: distributed.broadcast_object_list(outcome, src=0, group=self._host))
        if failure is not None:
            raise failure
        if outcome[1] is not None:
            raise OtherProcessError(f"process 0 of {self.size} failed in {what}: {outcome[1]}")
        return outcome[0]

    def meet(self, what: str) -> None:
        """See `Processes.meet`."""
        self._watch.calls += 1
        before, self._watch.what = self._watch.what, f"{what} ({self._watch.what})"
        key, began = f"meeting/{self._watch.calls}", time.monotonic()
        pause, looked = 0.001, began
        there = self._add(key, 1)
        while there < self.size:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
            now = time.monotonic()
            if now - looked > 1:
                looked = now
                if error := self._watch.look():
                    raise error
                if now - began > _LONGEST_SECONDS:
                    raise self._watch.explain(TimeoutError(f"waited for {_LONGEST_SECONDS:.0f} s"))
            there = self._add(key, 0)
        self._watch.what = before

    def at(self, what: str, patient: bool = False) -> None:
        """See `Processes.at`."""
        self._watch.what, self._patient = what, patient

    @contextmanager
    def running(self) -> Iterator[None]:
        """See `Processes.running`."""
        try:
            yield
            self._leave_together()
        except Stopped:
            self._leave_together()
            raise
        except BaseException as error:
            self._watch.stop()  # which would else take this process for one that cannot leave
            if not isinstance(error, OtherProcessError):
                self._watch.failed(self.rank, f"failed at {self._watch.what}: {type(error).__name__}: {error}")
                _write_error_file(error)
            if self.rank == 0 or not isinstance(error, OtherProcessError):
                time.sleep(2.5 * BEAT_SECONDS)  # until everybody has read it: the store may end with this process
            raise

    def _leave_together(self) -> None:
        """The process whose store it may be leaves last."""
        self.meet("the end")
        self._add("left", 1)
        deadline = time.monotonic() + 5
        while self.rank == 0 and self._add("left", 0) < self.size and time.monotonic() < deadline:
            time.sleep(0.01)
        self._watch.stop()

    def _add(self, key: str, count: int) -> int:
        try:
            return int(self._meetings.add(key, count))
        except RuntimeError as error:
            raise self._watch.failure() or self._watch.explain(error) from error

    def _do(self, operation: Callable[[], T], counts: bool = True) -> T:
        """An operation of `torch.distributed`, with an error that says who is to blame for its failure."""
        if counts and self._patient:
            self.meet("waiting for the others")
        self._watch.calls += counts
        try:
            return operation()
        except RuntimeError as error:
            raise self._watch.explain(error) from error


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors in their order, in groups of one type and about one size."""
    buckets: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if not buckets or tensor.numel() > room or buckets[-1][0].dtype != tensor.dtype:
            buckets.append([])
            room = _BUCKET_ELEMENTS
        buckets[-1].append(tensor)
        room -= tensor.numel()
    return buckets


def _own_store(rank: int) -> tuple[Any, Any]:
    """Two connections to the store of the processes, with names that no other run in these processes uses."""
    # torch has no public way to the store of `init_process_group`.
    store = distributed.distributed_c10d._get_default_store()
    number = store.add(f"mvmsr/runs/{rank}", 1)
    own = [distributed.PrefixStore(f"mvmsr/{number}", s.clone() if hasattr(s, "clone") else s) for s in [store] * 2]
    return own[0], own[1]


def _write_error_file(error: BaseException) -> None:
    """The error with its trace where torchrun looks for it."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    if isinstance(error, Exception):
        get_error_handler().record_exception(error)
