"""Training of NatSR's natural manifold discriminator: natural pictures against slightly noisy and blurry ones."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from mvmsr.config.nmd_options import NMDOptions
from mvmsr.counting import counted
from mvmsr.data.batches import Batch
from mvmsr.data.unnatural import blurry, noisy
from mvmsr.engine.checkpoint import latest_checkpoint
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.iteration import to_device
from mvmsr.engine.logs import RunningMeans, StatsLog
from mvmsr.engine.nmd_curriculum import observe
from mvmsr.engine.nmd_run import NMDRun, build_nmd, restore, save, weights_path
from mvmsr.engine.progress import TrainProgress
from mvmsr.engine.run_dir import RunDir, open_run_dir, record_changes, require_free_run_dir
from mvmsr.engine.stop import StopRequest, watch_signals
from mvmsr.losses.naturalness import discrimination_loss

log = logging.getLogger(__name__)


def train_nmd(options: NMDOptions, auto_resume: bool = False, console: Console | None = None) -> Path:
    """Train to the end of the curriculum or of `total_iter`, and return the weights file.

    Raises:
        OptionsError, SetupError: something cannot work; nothing has been written yet.
        RunExistsError: the run has begun before and `auto_resume` is false.
        RunBusyError: another process trains it now.
        CheckpointWriteError: the disk refuses a checkpoint; earlier ones are good.
        Stopped: SIGINT, SIGTERM or SIGHUP came; everything is saved.
    """
    console = console or Console()
    with watch_signals() as stop, ExitStack() as held:
        require_free_run_dir(options, auto_resume)
        run = build_nmd(options)
        folder = open_run_dir(options, auto_resume, held)
        means = RunningMeans()
        if auto_resume and (found := latest_checkpoint(folder.checkpoints)):
            restore(run, means, found[1])
            log.info("Continuing from %s", found[0])
        if auto_resume and run.iteration < options.train.total_iter:
            record_changes(folder, options)
        stats = StatsLog(folder.root, run.iteration, options.logger.use_tb_logger)
        try:
            _loop(run, folder, stats, means, console, stop)
        finally:
            stats.close()
    return weights_path(options)


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
    is_natural = (torch.arange(len(inputs), device=run.device) >= 2 * quarter)[:, None]
    logits = run.network(inputs).float()
    return discrimination_loss(logits, is_natural), ((logits > 0) == is_natural).float().mean()


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
                save(run, folder, stats, means)
            if stop and not last:
                raise stop.stopped_after(run.iteration)
    state = run.curriculum
    reached = "its curriculum is done" if state.finished else f"after {counted(run.iteration, 'iteration')}"
    log.info("The discriminator: %s, sigma %.4g, alpha %.2f", reached, state.sigma, state.alpha)
