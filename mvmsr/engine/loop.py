"""The training loop: data, iteration, log, validation, checkpoint."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mvmsr.config import OptionsError, TrainOptions
from mvmsr.data.batches import TrainBatches
from mvmsr.engine.build import Experiment, build, build_batches
from mvmsr.engine.check import check
from mvmsr.engine.checkpoint import CheckpointError, latest_checkpoint, list_checkpoints
from mvmsr.engine.data_identity import data_change, data_identity
from mvmsr.engine.distributed_setup import is_first, speak_for_all
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.iteration import run_iteration, to_device, training_record
from mvmsr.engine.logs import NoLog, RunningMeans, StatsLog
from mvmsr.engine.memory import advised_on_memory, peak_memory_mib
from mvmsr.engine.metric_warnings import findings_of_batches
from mvmsr.engine.objective import weaker_in_parts
from mvmsr.engine.optimizers import schedule_misfits
from mvmsr.engine.plain_errors import plain_errors_typed
from mvmsr.engine.progress import TrainProgress
from mvmsr.engine.rehearsal import SetupError, rehearse
from mvmsr.engine.report_timer import ReportTimer
from mvmsr.engine.rollback import go_back
from mvmsr.engine.run import Detour, Run
from mvmsr.engine.run_dir import RunDir, open_run_dir, options_hash, record_changes, require_free_run_dir
from mvmsr.engine.saving import try_to_save
from mvmsr.engine.state import take_up
from mvmsr.engine.stop import StopRequest, watch_signals
from mvmsr.engine.train_set import absent_folders
from mvmsr.engine.validate import Validation, build_validation
from mvmsr.engine.validation_round import (
    familiar_batches,
    held_out_patches,
    validate,
    validate_after_training,
    validation_is_due,
    was_validated,
)
from mvmsr.hardware import processors_busy_elsewhere, thread_advice, usable_processors
from mvmsr.heap import keep_for_reuse

log = logging.getLogger(__name__)


def train(options: TrainOptions, auto_resume: bool = False, console: Console | None = None) -> RunDir:
    """Train from options to the end of the schedule and return the run's folder.

    Under torchrun or SLURM every process calls this with the same options; the first one writes.

    Raises:
        OptionsError, SetupError, ...: something cannot work; nothing has been written yet.
        RunBusyError: another process trains this run now.
        OtherProcessError: another process of the run failed, died or hangs; the last checkpoint is good.
        NonFiniteLossError: a value was NaN or infinite, and the run may not go back; the last checkpoint is good.
        NotEnoughMemoryError: the message says what to lower; the last checkpoint is good.
        CheckpointError: the run cannot be continued, or not be saved; what was saved before is good.
        Stopped: SIGINT, SIGTERM or SIGHUP came; everything is saved.
    """
    console = (console or Console()) if is_first() else Console(quiet=True)
    speak_for_all()
    keep_for_reuse()
    with watch_signals() as stop:
        experiment, validation = _prepare(options, auto_resume)
        processes = experiment.processes
        stop.share(processes)
        with processes.running(), ExitStack() as held:
            batches = _prepare_data(experiment)
            folder = processes.first(
                "opening the run's folder", lambda: open_run_dir(options, auto_resume, held, experiment.runs_as)
            )
            run = _begin(experiment, folder, validation, auto_resume, batches)
            try:
                _train_through(run, batches, console, stop)
            finally:
                run.stats.close()
    return folder


def _prepare(options: TrainOptions, auto_resume: bool) -> tuple[Experiment, Validation | None]:
    """All that can fail for the user's sake, the quick before the slow; nothing of the run is written yet."""
    with plain_errors_typed():
        check(options)
        folder = require_free_run_dir(options, auto_resume)
        validation = _validation(options)
        # What a checkpoint will replace need not be there any more.
        continued = auto_resume and bool(list_checkpoints(folder.checkpoints))
        experiment = build(options, folder.root if continued else None)
    terms = [term for player in experiment.players.values() for term in player.terms]
    if text := weaker_in_parts(terms, options.train.accumulate):
        log.warning("%s", text)
    for problem in schedule_misfits(options):
        log.warning("%s", problem)
    return experiment, validation


def _validation(options: TrainOptions) -> Validation | None:
    """As `build_validation`; folders of the training set that are not here are said with what is wrong there."""
    problems = absent_folders(options)
    try:
        validation = build_validation(options)
    except OptionsError as error:
        raise OptionsError([*problems, *error.problems]) from error
    if problems:
        raise OptionsError(problems)
    return validation


def _prepare_data(experiment: Experiment) -> TrainBatches:
    """The rest of what can fail; nothing of the run is written yet."""
    options, processes = experiment.options, experiment.processes
    with plain_errors_typed():
        if len(set(processes.collect(options_hash(options)))) > 1:
            raise SetupError("the processes of the run were started with different options; give all of them the same")
        rehearse(experiment)
        processes.at("packing the images", patient=True)
        batches = build_batches(options, processes)
        processes.meet("packing the images")
        return batches


def _begin(
    experiment: Experiment, folder: RunDir, validation: Validation | None, auto_resume: bool, batches: TrainBatches
) -> Run:
    """Take up the newest checkpoint, or begin anew."""
    processes = experiment.processes
    means, detour = RunningMeans(), Detour()
    best: dict[str, Any] = {}
    data = processes.first("looking at the images", lambda: data_identity(batches))

    def newest() -> tuple[Path, dict[str, Any]] | None:
        return latest_checkpoint(folder.checkpoints) if auto_resume else None

    found = processes.first("reading the checkpoint", newest)
    if found:
        path, state = found
        best, detour = take_up(experiment, means, path, state)
        _require_not_past(experiment, folder)
        if change := data_change(state.get("data", {}), data):
            log.warning("%s", change)
        log.info("Continuing from %s", path)
    elif auto_resume:
        log.info("No checkpoint in %s yet; starting at the first iteration", folder.root)
    if auto_resume and experiment.iteration < experiment.options.train.total_iter:
        processes.first("writing options.yml", lambda: record_changes(folder, experiment.options, experiment.runs_as))
    stats: StatsLog | NoLog = NoLog()
    if processes.is_first:
        stats = StatsLog(folder.root, experiment.iteration, experiment.options.logger.use_tb_logger)
    held_out = held_out_patches(experiment, validation)
    familiar = familiar_batches(batches) if held_out else []
    return Run(experiment, folder, stats, means, validation, best, held_out, familiar, detour, data)


def _require_not_past(experiment: Experiment, folder: RunDir) -> None:
    at, total = experiment.iteration, experiment.options.train.total_iter
    if at > total:
        raise CheckpointError(
            f"{folder.root} is at iteration {at}, beyond train.total_iter: {total}, so nothing is left to do; raise "
            "total_iter, or start another run under another name"
        )


def _train_through(run: Run, batches: TrainBatches, console: Console, stop: StopRequest) -> None:
    """Train to the end, by way of earlier checkpoints where a value is not finite and the options allow that."""
    while True:
        try:
            return _loop(run, batches, console, stop)
        except NonFiniteLossError as error:
            go_back(run, batches, error)


def _loop(run: Run, batches: TrainBatches, console: Console, stop: StopRequest) -> None:
    experiment, options = run.experiment, run.experiment.options
    train, total, parts = options.train, options.train.total_iter, options.train.accumulate
    start = experiment.iteration
    if validation_is_due(run, start) and not was_validated(run, start):
        if not validate(run, stop):
            stop.settle()
            raise stop.stopped_after(start)
        try_to_save(run, stop)  # the best score may be a new one
    skipped = run.detour.batches
    pinned = experiment.device.type == "cuda"
    stream = batches.iterate(start * parts + skipped, total * parts + skipped, pin_memory=pinned)
    with closing(stream), TrainProgress(console, start, total) as progress:
        timer = ReportTimer(start)
        saved, advised, warned = True, False, False
        for iteration in range(start + 1, total + 1):
            # The first ones compile, reserve memory and read cold files, each process in its own time.
            experiment.processes.at(f"iteration {iteration}", patient=iteration <= start + 2)
            with timer.waiting_for_data():
                drawn = [next(stream) for _ in range(parts)]
            with advised_on_memory(options, f"iteration {iteration}"):
                group = [to_device(batch, experiment.device, experiment.channels_last) for batch in drawn]
                values, step = run_iteration(experiment, group)
            run.means.add(values)
            progress.advance(iteration)

            is_report_due = iteration % options.logger.print_freq == 0 or iteration == total
            if is_report_due:
                report = training_record(experiment, step, run.means)
                report |= {**timer.means(iteration), "memory_mib": peak_memory_mib()}
                run.stats.write(iteration, report)
                progress.report(iteration, report)
                advised = advised or _advise_on_threads(experiment)
                warned = warned or run.teller.tell(iteration, findings_of_batches(experiment, report))
                timer.restart(iteration)
            unfinished = iteration < total
            if validation_is_due(run, iteration):
                with timer.paused():
                    unfinished |= not validate_after_training(run, stop)
            stop.settle()
            is_save_due = iteration % options.logger.save_checkpoint_freq == 0 or iteration == total
            is_save_due |= run.best.get("iter") == iteration  # the best is to be continued from, too
            if is_save_due or stop or (is_report_due and not saved):
                saved = try_to_save(run, stop)
            if stop and unfinished:
                raise stop.stopped_after(iteration)
    log.info("Done: %d iterations of %s; weights are in %s", total, train.update, run.folder.weights)


def _advise_on_threads(experiment: Experiment) -> bool:
    """Whether it was said that other programs hold up this one's threads."""
    if experiment.device.type != "cpu" or experiment.processes.size > 1:
        return False
    threads = torch.get_num_threads()
    advice = thread_advice(threads, usable_processors(), processors_busy_elsewhere(threads))
    if advice:
        log.warning("%s (stop, set it, and continue with --auto-resume)", advice)
    return advice is not None
