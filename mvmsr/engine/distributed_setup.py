"""Finding the processes of a run: one, or as many as torchrun or SLURM started."""

from __future__ import annotations

import logging
import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from mvmsr.counting import counted
from mvmsr.engine.distributed import ALONE, Processes
from mvmsr.engine.distributed_group import SeveralProcesses
from mvmsr.engine.mixed_precision import precision_plugin
from mvmsr.hardware import Precision

PATIENCE_SECONDS = 30.0
"""How long a process waits for another in the middle of an iteration; `MVMSR_PATIENCE_SECONDS` says otherwise."""


class SummedGradients(DDPStrategy):
    """Fabric's DDP without torch's wrapper: gradients are summed by `Processes.exchange`.

    `DistributedDataParallel` expects one backward pass through all of a network after every forward pass. Here networks
    are frozen in turn, run twice before a backward pass, and take gradients of parts of a graph; and gradients of
    statistics of the whole batch are to be summed, not averaged.
    """

    def __init__(self, timeout: timedelta) -> None:
        super().__init__(timeout=timeout)
        self._backward_sync_control = None

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """The module as it is."""
        return module


def cluster() -> ClusterEnvironment | None:
    """Where the processes of this run were started, or None in a process of its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        environment: ClusterEnvironment = TorchElasticEnvironment()
    elif "SLURM_PROCID" in os.environ and SLURMEnvironment.detect():
        environment = SLURMEnvironment()
    else:
        return None
    return environment if environment.world_size() > 1 else None


def connect(device: torch.device, precision: Precision) -> tuple[Fabric, Processes]:
    """Fabric for this process, and the processes that it shares the run with.

    Raises:
        ValueError: a device that several processes cannot share.
    """
    environment = cluster()
    if environment is None:
        devices = [device.index or 0] if device.type == "cuda" else 1
        return Fabric(accelerator=device.type, devices=devices, plugins=precision_plugin(precision, device)), ALONE
    size = environment.world_size()
    if device.index is not None or device.type not in ("cuda", "cpu"):
        raise ValueError(
            f"device {str(device)!r} is one device, but {size} processes were started; use `cuda` or `cpu`"
        )
    nodes = _nodes(environment)
    if size % nodes:
        raise ValueError(f"{size} processes on {nodes} machines: expected as many on each")
    here = size // nodes
    if device.type == "cuda" and torch.cuda.device_count() < here:
        raise ValueError(
            f"{here} processes were started on this machine, which has {counted(torch.cuda.device_count(), 'GPU')}"
        )
    fabric = Fabric(
        accelerator=device.type,
        devices=here,
        num_nodes=nodes,
        strategy=SummedGradients(timedelta(minutes=15)),
        plugins=[environment, precision_plugin(precision, device)],
    )
    fabric.launch()
    return fabric, SeveralProcesses(float(os.environ.get("MVMSR_PATIENCE_SECONDS", PATIENCE_SECONDS)))


def is_first() -> bool:
    """Whether this process is the one that speaks and writes; known before the processes are connected."""
    environment = cluster()
    return environment is None or environment.global_rank() == 0


def speak_for_all() -> None:
    """Of several processes let the first one report; the others report warnings and errors."""
    if not is_first():
        logging.getLogger("mvmsr").setLevel(logging.WARNING)


def _nodes(environment: ClusterEnvironment) -> int:
    if isinstance(environment, SLURMEnvironment):
        return int(os.environ.get("SLURM_NNODES", "1"))
    return environment.world_size() // int(os.environ.get("LOCAL_WORLD_SIZE", str(environment.world_size())))
