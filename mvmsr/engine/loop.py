"""The training loop: data, iteration, log, validation, checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mvmsr.config import TrainOptions
from mvmsr.data.batches import TrainBatches
from mvmsr.engine.build import Experiment, build, build_batches, network_args
from mvmsr.engine.check import check
from mvmsr.engine.checkpoint import CheckpointError, clear_leftovers, latest_checkpoint, prune, save_checkpoint
from mvmsr.engine.distributed import fingerprint
from mvmsr.engine.distributed_setup import is_first, speak_for_all
from mvmsr.engine.held_out import HeldOutPatches, cut_patches, look, save_embeddings, warnings
from mvmsr.engine.iteration import embedding_health, run_iteration, to_device
from mvmsr.engine.logs import NoLog, RunningMeans, StatsLog, read_stats
from mvmsr.engine.memory import peak_memory_mib
from mvmsr.engine.progress import TrainProgress
from mvmsr.engine.rehearsal import SetupError, rehearse
from mvmsr.engine.run_dir import RunDir, open_run_dir, options_hash, require_free_run_dir
from mvmsr.engine.state import collect_state, restore_state
from mvmsr.engine.stop import StopRequest, watch_signals
from mvmsr.engine.validate import Validation, build_validation
from mvmsr.inference.weights import save_weights

log = logging.getLogger(__name__)


@dataclass
class Run:
    """A run in progress: the experiment, its folder, and what it writes."""

    experiment: Experiment
    folder: RunDir
    stats: StatsLog | NoLog
    means: RunningMeans
    validation: Validation | None
    best: dict[str, Any]
    held_out: HeldOutPatches | None = None


def train(options: TrainOptions, auto_resume: bool = False, console: Console | None = None) -> RunDir:
    """Train from options to the end of the schedule and return the run's folder.

    Under torchrun or SLURM every process calls this with the same options; the first one writes.

    Raises:
        OptionsError, SetupError, LayoutError, PairError, ...: something cannot work; nothing has been written yet.
        OtherProcessError: another process of the run failed, died or hangs; the last checkpoint is good.
        NonFiniteLossError: a loss was NaN or infinite; the last checkpoint is good.
        Stopped: SIGINT or SIGTERM came; everything is saved.
    """
    console = (console or Console()) if is_first() else Console(quiet=True)
    speak_for_all()
    with watch_signals() as stop:
        experiment, validation = _prepare(options, auto_resume)
        processes = experiment.processes
        stop.share(processes)
        with processes.running():
            batches = _prepare_data(experiment)
            folder = processes.first("opening the run's folder", lambda: open_run_dir(options, auto_resume))
            run = _begin(experiment, folder, validation, auto_resume)
            try:
                _loop(run, batches, console, stop)
            finally:
                run.stats.close()
    return folder


def _prepare(options: TrainOptions, auto_resume: bool) -> tuple[Experiment, Validation | None]:
    """All that can fail for the user's sake, the quick before the slow; nothing of the run is written yet."""
    with _typed_errors():
        check(options)
        require_free_run_dir(options, auto_resume)
        validation = build_validation(options)
        return build(options), validation


def _prepare_data(experiment: Experiment) -> TrainBatches:
    """The rest of what can fail; nothing of the run is written yet."""
    options, processes = experiment.options, experiment.processes
    with _typed_errors():
        if len(set(processes.collect(options_hash(options)))) > 1:
            raise SetupError("the processes of the run were started with different options; give all of them the same")
        rehearse(experiment)
        processes.at("packing the pictures", patient=True)
        batches = build_batches(options, processes)
        processes.meet("packing the pictures")
        return batches


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        # Errors of our own say what they are by their type; plain ones (of a constructor, of the disk) get one here.
        if type(error).__module__ == "builtins":
            raise SetupError(str(error)) from error
        raise


def _begin(experiment: Experiment, folder: RunDir, validation: Validation | None, auto_resume: bool) -> Run:
    """Take up the newest checkpoint, or begin anew."""
    processes = experiment.processes
    means, best = RunningMeans(), {}

    def look() -> tuple[Path, dict[str, Any]] | None:
        clear_leftovers(folder.checkpoints)
        return latest_checkpoint(folder.checkpoints) if auto_resume else None

    found = processes.first("reading the checkpoint", look)
    if found:
        path, state = found
        best = restore_state(experiment, means, state)
        log.info("Continuing from %s", path)
    elif auto_resume:
        log.info("No checkpoint in %s yet; beginning at the first iteration", folder.root)
    stats: StatsLog | NoLog = NoLog()
    if processes.is_first:
        stats = StatsLog(folder.root, experiment.iteration, experiment.options.logger.use_tb_logger)
    return Run(experiment, folder, stats, means, validation, best, _held_out_patches(experiment, validation))


def _held_out_patches(experiment: Experiment, validation: Validation | None) -> HeldOutPatches | None:
    """What the metric network is looked at on; the first process does that for all."""
    options = experiment.options
    wanted = validation is not None and options.val.embedding_patches > 0 and "metric_net" in experiment.modules
    if validation is None or not wanted or not experiment.processes.is_first:
        return None
    gt_size = int(options.datasets.train.args.get("gt_size", 96))
    found = cut_patches(validation.sets, options.val.embedding_patches, gt_size)
    if found is None:
        log.warning(
            "No validation picture is as large as a patch (%d pixels); held-out embeddings are left out", gt_size
        )
    return found


def _loop(run: Run, batches: TrainBatches, console: Console, stop: StopRequest) -> None:
    experiment, options = run.experiment, run.experiment.options
    train, total, parts = options.train, options.train.total_iter, options.train.accumulate
    start = experiment.iteration
    if _validation_is_due(run, start) and not _was_validated(run, start):
        if not _validate(run, stop):
            stop.settle()
            raise stop.stopped_after(start)
        _save(run)  # the best score may be a new one
    stream = batches.iterate(start * parts, total * parts, pin_memory=experiment.device.type == "cuda")
    with closing(stream), TrainProgress(console, start, total) as progress:
        clock = time.perf_counter()
        data_seconds, since = 0.0, start
        for iteration in range(start + 1, total + 1):
            # The first ones compile, reserve memory and read cold files, each process in its own time.
            experiment.processes.at(f"iteration {iteration}", patient=iteration <= start + 2)
            waited = time.perf_counter()
            drawn = [next(stream) for _ in range(parts)]
            data_seconds += time.perf_counter() - waited
            group = [to_device(batch, experiment.device, experiment.channels_last) for batch in drawn]
            values, step = run_iteration(experiment, group)
            run.means.add(values)
            progress.advance(iteration)

            if iteration % options.logger.print_freq == 0 or iteration == total:
                report = {name: float(v) for name, v in embedding_health(experiment, step).items()}
                report |= run.means.take()
                report |= {f"lr/{n}": p.optimizer.param_groups[0]["lr"] for n, p in experiment.players.items()}
                elapsed, count = time.perf_counter() - clock, iteration - since
                report |= {
                    "step_seconds": elapsed / count,
                    "data_seconds": data_seconds / count,
                    "memory_mib": peak_memory_mib(),
                }
                run.stats.write(iteration, report)
                progress.report(iteration, report)
                clock, data_seconds, since = time.perf_counter(), 0.0, iteration
            unfinished = iteration < total
            if _validation_is_due(run, iteration):
                paused = time.perf_counter()
                unfinished |= not _validate(run, stop)
                clock += time.perf_counter() - paused
            stop.settle()
            if iteration % options.logger.save_checkpoint_freq == 0 or iteration == total or stop:
                _save(run)
            if stop and unfinished:
                raise stop.stopped_after(iteration)
    log.info("Done: %d iterations of %s; weights are in %s", total, train.update, run.folder.weights)


def _validation_is_due(run: Run, iteration: int) -> bool:
    if run.validation is None or iteration == 0:
        return False
    return iteration % run.experiment.options.val.val_freq == 0 or iteration == run.experiment.options.train.total_iter


def _was_validated(run: Run, iteration: int) -> bool:
    def look() -> bool:
        records = read_stats(run.folder.stats)
        return any(r["iter"] == iteration and any(k.startswith("val/") for k in r) for r in records)

    return run.experiment.processes.first("reading the statistics", look)


def _validate(run: Run, stop: StopRequest) -> bool:
    """Score the generator; False where a stop request left that to the continued run."""
    experiment, iteration = run.experiment, run.experiment.iteration
    assert run.validation is not None
    scores = run.validation.score(experiment, run.folder.samples, iteration, stop)
    if scores is None:
        return False
    run.stats.write(iteration, {f"val/{name}": value for name, value in scores.items()})
    log.info("iter %d  %s", iteration, "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    experiment.processes.first("embedding held-out patches", lambda: _look_at_embeddings(run))
    if not scores:
        return True
    name, value = next(iter(scores.items()))
    metric = run.validation.metrics[name.rpartition("/")[2]]
    if not run.best or (value > run.best["value"]) == metric.higher_is_better:
        run.best = {"metric": name, "value": value, "iter": iteration}
        experiment.processes.first("saving the best weights", lambda: _save_weights(run, "best"))
    return True


def _look_at_embeddings(run: Run) -> None:
    if run.held_out is None:
        return
    iteration = run.experiment.iteration
    values, gt_embeddings, sr_embeddings = look(run.experiment, run.held_out)
    run.stats.write(iteration, {f"held_out/{name}": value for name, value in values.items()})
    save_embeddings(run.folder.embeddings, iteration, gt_embeddings, sr_embeddings)
    for text in warnings(values):
        log.warning("iter %d  %s", iteration, text)


def _save(run: Run) -> None:
    """A checkpoint, weights to use, and no more of either than the options keep."""
    experiment = run.experiment
    experiment.guard.flush()
    run.stats.sync()
    _require_equal_weights(experiment)
    state = collect_state(experiment, run.means, run.best)
    experiment.processes.first("saving the checkpoint", lambda: _write(run, state))


def _require_equal_weights(experiment: Experiment) -> None:
    """Processes whose networks went apart (by a fault of hardware, or a network of one's own) must not go on."""
    if experiment.processes.size == 1:
        return
    weights = [p for module in experiment.modules.values() for p in module.parameters()]
    if len(set(experiment.processes.collect(fingerprint(weights)))) > 1:
        raise CheckpointError(
            f"after iteration {experiment.iteration} the networks of the processes differ, so no checkpoint of them is "
            "written; --auto-resume goes back to the last one"
        )


def _write(run: Run, state: dict[str, Any]) -> None:
    experiment = run.experiment
    save_checkpoint(run.folder.checkpoints, experiment.iteration, state)
    _save_weights(run, f"{experiment.iteration:08d}")
    keep = {run.best["iter"]} if run.best else set()
    for iteration in prune(run.folder.checkpoints, experiment.options.logger.keep_last, keep):
        _weights_path(run, f"{iteration:08d}").unlink(missing_ok=True)


def _weights_path(run: Run, label: str) -> Path:
    return run.folder.weights / f"{run.experiment.options.name}_g_{label}.safetensors"


def _save_weights(run: Run, label: str) -> None:
    options = run.experiment.options
    save_weights(
        _weights_path(run, label),
        run.experiment.eval_generator.state_dict(),
        arch=options.network_g.type,
        args=network_args(options, "network_g"),
        scale=options.scale,
        extra={
            "name": options.name,
            "iterations": str(run.experiment.iteration),
            "averaged": str(run.experiment.ema is not None).lower(),
            "options_sha256": options_hash(options),
        },
    )
