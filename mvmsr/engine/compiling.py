"""Which networks of a run are compiled."""

from __future__ import annotations

import os
import shutil

import torch

from mvmsr.config import TrainOptions
from mvmsr.engine.distributed import Processes

# Iterations from which a minute of compilation pays on a CPU: SRResNet's become about a quarter shorter, those with a
# metric network beside it a twentieth.
WORTH_COMPILING = 2_000
_WORTH_COMPILING_METRIC_NET = 10_000


def compiles(options: TrainOptions, device: torch.device, iterations: int) -> bool:
    """Whether to compile; `auto` on a CPU does so for runs of so many iterations, as shorter ones would lose by it."""
    if options.compile != "auto":
        return options.compile
    if device.type == "cuda":
        return True
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    return device.type == "cpu" and options.train.total_iter >= iterations and any(map(shutil.which, compilers))


def compiles_metric_net(options: TrainOptions, device: torch.device, processes: Processes) -> bool:
    """Whether to compile the metric network for both objectives; a discriminator would not gain by it."""
    shares_a_pass = options.network_m is not None and options.train.update == "simultaneous" and processes.size == 1
    return shares_a_pass and device.type == "cpu" and compiles(options, device, _WORTH_COMPILING_METRIC_NET)
