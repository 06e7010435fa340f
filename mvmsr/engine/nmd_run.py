"""A natural manifold discriminator in training: built from its options, saved, and taken up again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from mvmsr.config import OptionsError
from mvmsr.config.nmd_options import NMDOptions
from mvmsr.counting import counted
from mvmsr.data.batches import Batch, TrainBatches
from mvmsr.data.paired_dataset import PairedImageDataset, as_list
from mvmsr.data.textured_crops import TexturedCrops
from mvmsr.engine.check import machine_problems
from mvmsr.engine.checkpoint import CheckpointError, CheckpointWriteError, prune, save_checkpoint
from mvmsr.engine.distributed_setup import cluster, connect
from mvmsr.engine.logs import RunningMeans, StatsLog
from mvmsr.engine.misfit import misfit
from mvmsr.engine.nmd_curriculum import Curriculum, begin
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_dir import RunDir, run_dir_of
from mvmsr.engine.state import load_optimizer
from mvmsr.engine.train_set import data_errors_named
from mvmsr.hardware import Precision, pick_channels_last, pick_device, pick_precision
from mvmsr.inference.weights import save_weights
from mvmsr.registry import ARCHS, RegistryError

_JUDGED = 16
"""Pictures of an accuracy that go through the network at once."""


@dataclass
class NMDRun:
    """A discriminator in training.

    Attributes:
        module: the network itself; `network` is the same as Fabric runs it.
        held_out: the crops that accuracies are taken on; the same ones always.
    """

    options: NMDOptions
    fabric: Fabric
    device: torch.device
    channels_last: bool
    module: nn.Module
    network: Any
    optimizer: Optimizer
    batches: TrainBatches
    held_out: list[Batch]
    curriculum: Curriculum
    iteration: int = 0


def weights_path(options: NMDOptions) -> Path:
    """Where the run leaves the discriminator."""
    return run_dir_of(options).weights / f"{options.name}.safetensors"


def build_nmd(options: NMDOptions) -> NMDRun:
    """Network, optimizer and data of a run that begins.

    Raises:
        OptionsError: a network, optimizer or device that does not exist; pictures that are missing, too few, or cannot
            be used.
        SetupError: several processes.
    """
    device, precision, channels_last, module, optimizer = build_discriminator(options)
    fabric, _ = connect(device, precision)
    network, wrapped = fabric.setup(module, optimizer, move_to_device=False)
    with data_errors_named(options):
        batches, held_out = _data(options)
    curriculum = begin(options.train.curriculum)
    return NMDRun(options, fabric, device, channels_last, module, network, wrapped, batches, held_out, curriculum)


def build_discriminator(options: NMDOptions) -> tuple[torch.device, Precision, bool, nn.Module, Optimizer]:
    """Device, precision, whether NHWC, the network with its first weights, and its optimizer.

    Raises:
        OptionsError: a network, optimizer or device that does not exist.
        SetupError: several processes.
    """
    if cluster() is not None:
        raise SetupError("this training runs in one process; start it without torchrun or srun")
    if problems := machine_problems(options):
        raise OptionsError(problems)
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    channels_last = pick_channels_last(options.channels_last, device, precision)
    torch.manual_seed(options.manual_seed)
    try:
        module = ARCHS.get(options.network.type)(**options.network.args).to(device)
    except (RegistryError, TypeError, ValueError) as error:
        raise options.error(("network",), str(error)) from error
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    spec = options.train.optim
    try:
        optimizer = getattr(torch.optim, spec.type)(module.parameters(), lr=spec.lr, **spec.args)
    except (AttributeError, TypeError, ValueError) as error:
        raise options.error(("train", "optim"), f"{spec.type} cannot be made: {error}") from error
    return device, precision, channels_last, module, optimizer


def require_enough(options: NMDOptions, pictures: int) -> None:
    """That so many pictures leave some to train on.

    Raises:
        OptionsError: all of them are to be held out.
    """
    held_out = options.datasets.train.held_out
    if pictures <= held_out:
        message = f"{counted(pictures, 'image')}, of which {held_out} are to be held out; hold out fewer"
        raise options.error(("datasets", "train", "held_out"), message)


def _data(options: NMDOptions) -> tuple[TrainBatches, list[Batch]]:
    spec = options.datasets.train
    dataset = PairedImageDataset(
        as_list(spec.dataroot_gt), scale=options.scale, gt_size=spec.gt_size, cache_dir=spec.cache_dir
    )
    require_enough(options, len(dataset))
    held = {round((k + 0.5) * len(dataset) / spec.held_out - 0.5) for k in range(spec.held_out)}
    kept = [index for index in range(len(dataset)) if index not in held]
    parts = [TexturedCrops(dataset, part, spec.least_gradient, spec.least_variance) for part in (kept, sorted(held))]
    judged = options.train.curriculum.pictures
    size = min(_JUDGED, judged)
    judges = TrainBatches(parts[1], size, options.manual_seed + 1)
    held_out = [judges.batch(k) for k in range(-(-judged // size))]
    return TrainBatches(parts[0], spec.batch_size_per_gpu, options.manual_seed), held_out


def save(run: NMDRun, folder: RunDir, stats: StatsLog, means: RunningMeans) -> None:
    """The discriminator to use, and a checkpoint; in this order, so that a checkpoint that is there has its weights.

    Raises:
        CheckpointWriteError: the disk refuses; earlier checkpoints are good.
    """
    try:
        stats.sync()
        save_weights(
            weights_path(run.options),
            run.module.state_dict(),
            arch=run.options.network.type,
            args=run.options.network.args,
            scale=1,
            extra={
                "name": run.options.name,
                "iterations": str(run.iteration),
                "sigma": f"{run.curriculum.sigma:.6g}",
                "alpha": f"{run.curriculum.alpha:.6g}",
                "curriculum_finished": str(run.curriculum.finished).lower(),
            },
        )
    except OSError as error:
        raise CheckpointWriteError(
            f"cannot save in {folder.root}: {error}; free some space or repair the folder, then --auto-resume"
        ) from error
    state = {
        "iteration": run.iteration,
        "network": run.module.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "optimizer_type": run.options.train.optim.type,
        "curriculum": run.curriculum.as_dict(),
        "means": means.state_dict(),
    }
    save_checkpoint(folder.checkpoints, run.iteration, state)
    prune(folder.checkpoints, run.iteration, run.options.logger.keep_last, set())


def restore(run: NMDRun, means: RunningMeans, state: dict[str, Any]) -> None:
    """Take up a checkpoint.

    Raises:
        CheckpointError: it does not fit the options.
    """
    if difference := misfit(state.get("network", {}), run.module):
        raise CheckpointError(
            f"the checkpoint does not fit the options' discriminator: {difference}; use the run's own options (its "
            "options.yml), or another name"
        )
    try:
        run.module.load_state_dict(state["network"])
        spec = run.options.train.optim
        load_optimizer(run.optimizer, state["optimizer"], spec.type, state.get("optimizer_type"))
        for group in run.optimizer.param_groups:
            group["lr"] = spec.lr
        found = state["curriculum"]
        run.curriculum = Curriculum(**{**found, "noisy": tuple(found["noisy"]), "blurry": tuple(found["blurry"])})
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint does not fit the options' discriminator: {error}") from error
    run.iteration = state["iteration"]
    means.load_state_dict(state["means"], run.device)
