"""Nothing in an iteration needs a value of a tensor on the host, which on a GPU would wait for all work under way.

That no copy waits, either, is for `test_engine_gpu.py` to show; this holds on every machine, for every term.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import random_images, tiny_options
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mvmsr.archs.scalar_prelu import ScalarPReLU
from mvmsr.engine.build import build
from mvmsr.engine.guard import FiniteGuard
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.logs import RunningMeans

_READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")
"""Operators whose result, or its size, the host has to wait for."""
_INDEXED = ("index", "index_put", "index_put_")
"""Those that wait where an index is a mask."""


class NothingIsRead(TorchDispatchMode):
    """Refuses operators that hand a value to the host: `item()`, `float(t)`, `if t`, `t[mask]`, ..."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in _INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in _READS or by_mask:
            raise AssertionError(f"{name} is waited for")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "read", [lambda t: t.item(), lambda t: float(t.sum()), lambda t: bool(t.sum() > 0), lambda t: t[t > 0].sum()]
)
def test_reading_is_noticed(read: Callable[[torch.Tensor], Any]) -> None:
    with NothingIsRead(), pytest.raises(AssertionError, match="waited for"):
        read(torch.ones(1))


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped and averaged": {"train.grad_clip": 1.0, "train.ema_decay": 0.9},
    "mixed precision": {"precision": "bf16-mixed"},
    "official": {
        "train.manifold_opt": {"type": "ManifoldMatchingLoss", "preset": "official"},
        "train.triplet_opt": {"type": "DirectedTripletLoss", "preset": "official"},
    },
    "all triplets": {"train.triplet_opt": {"type": "DirectedTripletLoss", "triplets": "all", "hinge": "softplus"}},
    "other pixel terms": {
        "train.pixel_opt": {"type": "CharbonnierLoss"},
        "train.mse_opt": {"type": "MSELoss"},
        "train.tv_opt": {"type": "WeightedTVLoss"},
    },
} | {
    gan_type: {"train.gan_opt": {"type": "GANLoss", "gan_type": gan_type, "loss_weight": 0.1}}
    for gan_type in ("lsgan", "hinge", "relativistic", "wgan", "wgan_softplus")
}


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("case", CASES)
def test_no_value_is_read_in_an_iteration(
    case: str, update: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScalarPReLU, "forward", nn.PReLU.forward)  # as on a GPU; ours reads its slope, for the CPU
    options = tiny_options(tmp_path, pictures, "GDM", {"train.update": update, **CASES[case]})
    experiment, means = build(options), RunningMeans()
    experiment.guard = FiniteGuard(experiment.device, lag=100)  # as on a GPU, where it looks later
    parts = [random_images(seed=0), random_images(seed=1)]
    run_iteration(experiment, parts)  # the optimizers make their state
    with NothingIsRead():
        for _ in range(2):
            means.add(run_iteration(experiment, parts)[0])
    assert all(torch.isfinite(torch.tensor(value)) for value in means.take().values())
