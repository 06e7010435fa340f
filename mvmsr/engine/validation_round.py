"""Validation as a part of a run: when it is due, what is written of it, and the best weights that it finds."""

from __future__ import annotations

import logging

from mvmsr.data.batches import Batch, TrainBatches
from mvmsr.engine.build import Experiment
from mvmsr.engine.held_out import HeldOutPatches, cut_patches, look_at_held_out, save_embeddings
from mvmsr.engine.logs import read_stats
from mvmsr.engine.memory import advised_on_memory
from mvmsr.engine.metric_warnings import chances, findings
from mvmsr.engine.run import Run
from mvmsr.engine.saving import save_best_weights, try_to_save
from mvmsr.engine.stop import StopRequest
from mvmsr.engine.validate import Validation

log = logging.getLogger(__name__)

_FAMILIAR = 256


def held_out_patches(experiment: Experiment, validation: Validation | None) -> HeldOutPatches | None:
    """What the metric network is looked at on; the first process does that for all."""
    options = experiment.options
    count = options.val.embedding_patches if "metric_net" in experiment.modules else 0
    if validation is None or count == 0 or not experiment.processes.is_first:
        return None
    gt_size = options.datasets.train.gt_size
    found = cut_patches(validation.sets, count, gt_size)
    if found is None:
        log.warning("No validation image is as large as a patch (%d pixels); held-out embeddings are left out", gt_size)
    return found


def familiar_batches(batches: TrainBatches) -> list[Batch]:
    """The first batches of training, of about 256 pairs; of several processes those of all together."""
    whole = TrainBatches(batches.dataset, batches.batch_size, batches.seed, batches.enlarge_ratio)
    return [whole.batch(k) for k in range(max(1, _FAMILIAR // batches.batch_size))]


def validation_is_due(run: Run, iteration: int) -> bool:
    """Whether the generator is to be scored after that iteration."""
    if run.validation is None or iteration == 0:
        return False
    return iteration % run.experiment.options.val.val_freq == 0 or iteration == run.experiment.options.train.total_iter


def was_validated(run: Run, iteration: int) -> bool:
    """Whether the run's statistics hold a record of that validation, be it one without scores (`metrics: []`)."""

    def has_record() -> bool:
        records = (r for r in read_stats(run.folder.stats) if r["iter"] == iteration)
        return any(not any(key.startswith("lr/") for key in r) for r in records)  # as those of training have

    return run.experiment.processes.first("reading the statistics", has_record)


def validate_after_training(run: Run, stop: StopRequest) -> bool:
    """As `validate`; where that fails, what was trained is saved first, and validated when the run goes on."""
    try:
        return validate(run, stop)
    except Exception:
        # Of several processes the others may not have failed, and saving is for all of them together.
        if run.experiment.processes.size == 1:
            try_to_save(run, stop)
        raise


def validate(run: Run, stop: StopRequest) -> bool:
    """Score the generator; False where a stop request left that to the continued run."""
    experiment, iteration = run.experiment, run.experiment.iteration
    doing = f"the validation after iteration {iteration}"
    with advised_on_memory(experiment.options, doing), experiment.whole_generator():
        return _score_and_keep(run, stop)


def _score_and_keep(run: Run, stop: StopRequest) -> bool:
    """As `validate`, of a generator that every process has all of."""
    experiment, iteration = run.experiment, run.experiment.iteration
    assert run.validation is not None
    scores = run.validation.score(experiment, run.folder.samples, iteration, stop)
    if scores is None:
        return False
    run.stats.write(iteration, {f"val/{name}": value for name, value in scores.items()})
    log.info("iter %d  %s", iteration, "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    experiment.processes.first("embedding held-out patches", lambda: _look_at_embeddings(run))
    judge = run.validation.judge
    if judge is None or judge[0] not in scores:  # a picture of that set failed
        return True
    name, metric = judge
    value, before = scores[name], run.best if run.best.get("metric") == name else None
    if before is None or (value > before["value"]) == metric.higher_is_better:
        problem = experiment.processes.first("saving the best weights", lambda: save_best_weights(run))
        if problem:
            log.error("iter %d  %s; the best weights remain the previous ones", iteration, problem)
        else:
            run.best = {"metric": name, "value": value, "iter": iteration}
    return True


def _look_at_embeddings(run: Run) -> None:
    if run.held_out is None:
        return
    iteration = run.experiment.iteration
    values, gt_embeddings, sr_embeddings = look_at_held_out(run.experiment, run.held_out, run.familiar)
    run.stats.write(iteration, {f"held_out/{name}": value for name, value in values.items()})
    try:
        save_embeddings(run.folder.embeddings, iteration, gt_embeddings, sr_embeddings)
    except OSError as error:
        log.error("iter %d  the embeddings cannot be written: %s", iteration, error)
    run.teller.tell(iteration, findings(values, chances(run.experiment)))
