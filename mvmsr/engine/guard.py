"""A non-finite loss never reaches the weights.

On a GPU nothing here waits for the device: the update is skipped on the device itself by the fused optimizer's
`found_inf` input, and the host reads the flag an iteration later, when it has arrived anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mvmsr.engine.distributed import ALONE, Processes

GRADIENT_NORM = "gradient norm"
"""What the norm is called among the values of an update."""


class NonFiniteLossError(RuntimeError):
    """A loss term, a gradient or a weight became NaN or infinite; no update is made of it and no checkpoint.

    Args:
        iteration, network: of the update.
        values: what was not finite, by name, as text.
    """

    def __init__(self, message: str, iteration: int, network: str, values: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.iteration, self.network, self.values = iteration, network, dict(values or {})


@dataclass(frozen=True)
class _Pending:
    iteration: int
    network: str
    names: tuple[str, ...]
    terms: tuple[str, ...]
    values: Tensor
    ready: torch.cuda.Event | None


class FiniteGuard:
    """Checks every update's terms and gradient norm before the optimizer steps.

    Args:
        device: where the losses live.
        lag: how many updates the host's look may lag behind the device's; 0 looks at once (free on a CPU). Optimizers
            that cannot skip a step on the device (those that are not fused) are looked at at once in any case.
        scaled: whether a gradient scaler is at work. Gradients that overflow are then everyday: it skips the step and
            lowers its scale. Only the terms are checked.
        processes: those that share the batch. What they check are the same values everywhere, so that all stop.
    """

    def __init__(
        self, device: torch.device, lag: int | None = None, scaled: bool = False, processes: Processes = ALONE
    ) -> None:
        self._processes = processes
        self._lag = (4 if device.type == "cuda" else 0) if lag is None else lag
        self._scaled = scaled
        self._pending: deque[_Pending] = deque()

    def check(
        self, iteration: int, network: str, values: Mapping[str, Tensor], names: Sequence[str], optimizer: Optimizer
    ) -> None:
        """Stop, or make the coming step of `optimizer` void on the device, when a value is not finite.

        Args:
            values: the unweighted terms and the gradient norm, scalars by name.
            names: the pictures of the batch.

        Raises:
            NonFiniteLossError: naming terms, network, iteration and pictures.
        """
        if self._scaled:
            values = {name: value for name, value in values.items() if name != GRADIENT_NORM}
        stacked = torch.stack([value.detach().float() for value in values.values()])
        ready = None
        plain: Any = getattr(optimizer, "optimizer", optimizer)  # Fabric's wrapper would keep the flag to itself
        lag = self._lag if getattr(plain, "_step_supports_amp_scaling", False) else 0
        if lag:
            # torch's fused optimizers skip their step where this is 1, as they do for gradient scalers.
            plain.found_inf = (~torch.isfinite(stacked).all()).float()
            stacked = stacked.to("cpu", non_blocking=True)
            if torch.cuda.is_available():
                ready = torch.cuda.Event()
                ready.record()
        self._pending.append(_Pending(iteration, network, tuple(names), tuple(values), stacked, ready))
        while len(self._pending) > lag:
            self._look(self._pending.popleft())

    def flush(self) -> None:
        """Look at everything that is still under way (before a checkpoint is written)."""
        while self._pending:
            self._look(self._pending.popleft())

    def forget(self) -> None:
        """Drop what is still under way: the run goes back to before it."""
        self._pending.clear()

    def _look(self, pending: _Pending) -> None:
        if pending.ready is not None:
            pending.ready.synchronize()
        finite = torch.isfinite(pending.values)
        if finite.all():
            return
        entries = zip(pending.terms, pending.values.tolist(), finite.tolist(), strict=True)
        bad = {term: str(value) for term, value, ok in entries if not ok}
        pictures = [name for names in self._processes.collect(pending.names) for name in names]
        raise NonFiniteLossError(
            f"iteration {pending.iteration}: {', '.join(f'{term} = {value}' for term, value in bad.items())} in the "
            f"update of the {pending.network}, on the images {', '.join(pictures)}. The weights were not changed. "
            "Lower the learning rate or that term's weight, set train.grad_clip, or use precision 32.",
            pending.iteration,
            pending.network,
            bad,
        )
