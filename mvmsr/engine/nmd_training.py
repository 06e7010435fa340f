"""Training of NatSR's natural manifold discriminator: natural pictures against slightly noisy and blurry ones."""

from __future__ import annotations

import json
import logging
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mvmsr.atomic import write_whole
from mvmsr.config.nmd_options import NMDOptions
from mvmsr.config.yaml_source import write_yaml
from mvmsr.counting import counted
from mvmsr.data.batches import Batch, TrainBatches
from mvmsr.data.layouts import LayoutError
from mvmsr.data.paired_dataset import PairedImageDataset
from mvmsr.data.textured_crops import TexturedCrops
from mvmsr.data.unnatural import blurry, noisy
from mvmsr.engine.checkpoint import CheckpointError, clear_leftovers, latest_checkpoint, prune, save_checkpoint
from mvmsr.engine.distributed_setup import cluster
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.iteration import to_device
from mvmsr.engine.logs import RunningMeans, StatsLog
from mvmsr.engine.misfit import misfit
from mvmsr.engine.mixed_precision import precision_plugin
from mvmsr.engine.nmd_curriculum import Curriculum, begin, observe
from mvmsr.engine.progress import TrainProgress
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_dir import RunDir, RunExistsError
from mvmsr.engine.run_lock import locked
from mvmsr.engine.state import load_optimizer
from mvmsr.engine.stop import StopRequest, watch_signals
from mvmsr.hardware import Precision, pick_channels_last, pick_device, pick_precision
from mvmsr.inference.weights import save_weights
from mvmsr.registry import ARCHS, RegistryError

log = logging.getLogger(__name__)

_JUDGED = 16
"""Pictures of an accuracy that go through the network at once."""


@dataclass
class NMDRun:
    """A discriminator in training.

    Args:
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


def train_nmd(options: NMDOptions, auto_resume: bool = False, console: Console | None = None) -> Path:
    """Train to the end of the curriculum or of `total_iter`, and return the weights file.

    Raises:
        OptionsError, SetupError, PairError: something cannot work; nothing has been written yet.
        RunExistsError: the run has begun before and `auto_resume` is false.
        RunBusyError: another process trains it now.
        CheckpointWriteError: the disk refuses a checkpoint; earlier ones are good.
        Stopped: SIGINT, SIGTERM or SIGHUP came; everything is saved.
    """
    console = console or Console()
    with watch_signals() as stop:
        folder = RunDir(Path(options.path.experiments_root) / options.name)
        if (folder.stats.exists() or folder.checkpoints.exists()) and not auto_resume:
            raise RunExistsError(
                f"{folder.root} exists already; --auto-resume continues it, --set name=... starts another run beside it"
            )
        run = build_nmd(options)
        folder.root.mkdir(parents=True, exist_ok=True)
        with locked(folder.root):
            write_whole(folder.root / "options.yml", _as_yaml(options).encode())
            clear_leftovers(folder.checkpoints)
            means = RunningMeans()
            if auto_resume and (found := latest_checkpoint(folder.checkpoints)):
                _restore(run, means, found[1])
                log.info("Continuing from %s", found[0])
            stats = StatsLog(folder.root, run.iteration, options.logger.use_tb_logger)
            try:
                _loop(run, folder, stats, means, console, stop)
            finally:
                stats.close()
    return weights_path(options)


def weights_path(options: NMDOptions) -> Path:
    """Where the run leaves the discriminator."""
    return RunDir(Path(options.path.experiments_root) / options.name).weights / f"{options.name}.safetensors"


def build_nmd(options: NMDOptions) -> NMDRun:
    """Network, optimizer and data of a run that begins.

    Raises:
        OptionsError: a network, optimizer or device that does not exist; pictures that are missing or do not pair up.
        SetupError: fewer pictures than are to be held out, or several processes.
    """
    device, precision, channels_last, module, optimizer = build_judge(options)
    devices = [device.index or 0] if device.type == "cuda" else 1
    fabric = Fabric(accelerator=device.type, devices=devices, plugins=precision_plugin(precision, device))
    network, wrapped = fabric.setup(module, optimizer, move_to_device=False)
    try:
        batches, held_out = _data(options)
    except LayoutError as error:
        raise options.error(("datasets", "train", "dataroot_gt"), str(error)) from error
    curriculum = begin(options.train.curriculum)
    return NMDRun(options, fabric, device, channels_last, module, network, wrapped, batches, held_out, curriculum)


def build_judge(options: NMDOptions) -> tuple[torch.device, Precision, bool, nn.Module, Optimizer]:
    """Device, precision, whether NHWC, the network with its first weights, and its optimizer.

    Raises:
        OptionsError: a network, optimizer or device that does not exist.
        SetupError: several processes.
    """
    if cluster() is not None:
        raise SetupError("this training runs in one process; start it without torchrun or srun")
    key = "device"
    try:
        device = pick_device(options.device)
        key = "precision"
        precision = pick_precision(options.precision, device)
    except ValueError as error:
        raise options.error((key,), str(error)) from error
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


def _data(options: NMDOptions) -> tuple[TrainBatches, list[Batch]]:
    spec = options.datasets.train
    roots = spec.dataroot_gt if isinstance(spec.dataroot_gt, str) else list(spec.dataroot_gt)
    dataset = PairedImageDataset(roots, scale=options.scale, gt_size=spec.gt_size, cache_dir=spec.cache_dir)
    if len(dataset) <= spec.held_out:
        raise SetupError(
            f"{counted(len(dataset), 'image')}, of which {spec.held_out} are to be held out; hold out fewer"
        )
    held = {round((k + 0.5) * len(dataset) / spec.held_out - 0.5) for k in range(spec.held_out)}
    kept = [index for index in range(len(dataset)) if index not in held]
    parts = [TexturedCrops(dataset, part, spec.least_gradient, spec.least_variance) for part in (kept, sorted(held))]
    judged = options.train.curriculum.pictures
    size = min(_JUDGED, judged)
    judges = TrainBatches(parts[1], size, options.manual_seed + 1)
    held_out = [judges.batch(k) for k in range(-(-judged // size))]
    return TrainBatches(parts[0], spec.batch_size_per_gpu, options.manual_seed), held_out


def nmd_loss(run: NMDRun, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy over a batch whose first quarter is made noisy and whose second blurry, and the share it got."""
    images = to_device(batch, run.device, run.channels_last)
    quarter = len(images.gt) // 4
    seed = (run.options.manual_seed * 1_000_003 + run.iteration) * 2 % 2**63
    generator = torch.Generator().manual_seed(seed)
    gt, lq = images.gt, images.lq
    inputs = torch.cat(
        [
            noisy(gt[:quarter], run.curriculum.sigma, generator),
            blurry(gt[quarter : 2 * quarter], lq[quarter : 2 * quarter], run.curriculum.alpha),
            gt[2 * quarter :],
        ]
    )
    natural = torch.zeros(len(inputs), 1, device=run.device)
    natural[2 * quarter :] = 1
    logits = run.network(inputs).float()
    return F.binary_cross_entropy_with_logits(logits, natural), ((logits > 0) == (natural > 0)).float().mean()


def accuracies(run: NMDRun) -> tuple[float, float]:
    """The share of the held-out crops that is judged right: noisy against clean ones, and blurry against clean ones."""
    run.module.eval()
    counts = {"noisy": 0, "blurry": 0, "clean": 0}
    total = 0
    generator = torch.Generator().manual_seed(run.options.manual_seed * 2 + 1)
    with torch.no_grad():
        for batch in run.held_out:
            images = to_device(batch, run.device, run.channels_last)
            kinds = {
                "noisy": noisy(images.gt, run.curriculum.sigma, generator),
                "blurry": blurry(images.gt, images.lq, run.curriculum.alpha),
                "clean": images.gt,
            }
            for kind, pictures in kinds.items():
                natural = run.network(pictures).float() > 0
                counts[kind] += int((natural if kind == "clean" else ~natural).sum())
            total += len(images.gt)
    run.module.train()
    return tuple((counts[kind] + counts["clean"]) / (2 * total) for kind in ("noisy", "blurry"))  # type: ignore[return-value]


def _loop(
    run: NMDRun, folder: RunDir, stats: StatsLog, means: RunningMeans, console: Console, stop: StopRequest
) -> None:
    options, total = run.options, run.options.train.total_iter
    start, curriculum = run.iteration, options.train.curriculum
    run.module.train()
    stream = run.batches.iterate(start, total, pin_memory=run.device.type == "cuda")
    with closing(stream), TrainProgress(console, start, total) as progress:
        clock, since = time.perf_counter(), start
        while run.iteration < total and not run.curriculum.finished:
            loss, right = nmd_loss(run, next(stream))
            if not torch.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss of the discriminator is {loss.item()} at {run.iteration + 1}",
                    run.iteration + 1,
                    "discriminator",
                )
            run.optimizer.zero_grad(set_to_none=True)
            run.fabric.backward(loss)
            run.optimizer.step()
            means.add({"loss_nmd/cross_entropy": loss, "nmd/batch_accuracy": right})
            run.iteration += 1
            progress.advance(run.iteration)
            if run.iteration % curriculum.every == 0:
                noisy_share, blurry_share = accuracies(run)
                run.curriculum = observe(run.curriculum, noisy_share, blurry_share, curriculum)
                judged = {"nmd/noisy_accuracy": noisy_share, "nmd/blurry_accuracy": blurry_share}
                stats.write(
                    run.iteration, {**judged, "nmd/sigma": run.curriculum.sigma, "nmd/alpha": run.curriculum.alpha}
                )
            last = run.iteration == total or run.curriculum.finished
            if run.iteration % options.logger.print_freq == 0 or last:
                seconds = (time.perf_counter() - clock) / max(run.iteration - since, 1)
                report = {**means.take(), "step_seconds": seconds}
                stats.write(run.iteration, report)
                progress.report(run.iteration, report)
                clock, since = time.perf_counter(), run.iteration
            if run.iteration % options.logger.save_checkpoint_freq == 0 or last or stop:
                _save(run, folder, stats, means)
            if stop and not last:
                raise stop.stopped_after(run.iteration)
    state = run.curriculum
    reached = "its curriculum is done" if state.finished else f"after {counted(run.iteration, 'iteration')}"
    log.info("The discriminator: %s, sigma %.4g, alpha %.2f", reached, state.sigma, state.alpha)


def _save(run: NMDRun, folder: RunDir, stats: StatsLog, means: RunningMeans) -> None:
    stats.sync()
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


def _restore(run: NMDRun, means: RunningMeans, state: dict[str, Any]) -> None:
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


def _as_yaml(options: NMDOptions) -> str:
    return write_yaml(json.loads(options.model_dump_json(exclude_none=True)))
