"""What a run saves: checkpoints, weights to use, and no more of either than the options keep."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mvmsr.atomic import put_in_place
from mvmsr.engine.checkpoint import (
    CheckpointError,
    CheckpointWriteError,
    expired,
    list_checkpoints,
    remove_checkpoint,
    save_checkpoint,
)
from mvmsr.engine.distributed import fingerprint
from mvmsr.engine.distributed_group import is_sharded
from mvmsr.engine.finite_state import require_finite_state
from mvmsr.engine.networks import network_args
from mvmsr.engine.run import Run
from mvmsr.engine.run_dir import options_hash
from mvmsr.engine.state import collect_state
from mvmsr.engine.stop import StopRequest
from mvmsr.inference.weights import save_weights

log = logging.getLogger(__name__)

LAST_SAVE_TRIES, SECONDS_BETWEEN_TRIES = 120, 5.0


def save(run: Run) -> None:
    """A checkpoint and weights of the iteration that the run is at; older ones go where there are too many.

    Weights come first: a run that dies in between makes them again, and a checkpoint that is there has its weights.

    Raises:
        CheckpointWriteError: the disk refused; what was saved before is untouched.
        CheckpointError: the processes' networks differ.
        NonFiniteLossError: a weight, an average or an optimizer's state is NaN or infinite.
    """
    experiment = run.experiment
    experiment.guard.flush()
    require_finite_state(experiment)
    _require_equal_weights(run)
    state = collect_state(experiment, run.means, run.best, run.detour, run.data)
    problem = experiment.processes.first("saving the checkpoint", lambda: _write(run, state))
    if problem:
        raise CheckpointWriteError(problem)


def try_to_save(run: Run, stop: StopRequest) -> bool:
    """Save; False where the disk refuses and the training had better go on and try again later.

    A run that stops now cannot wait. One that has come to its end waits for somebody to make room, for ten minutes.

    Raises:
        CheckpointWriteError: the disk refuses, and there is no later.
    """
    experiment = run.experiment
    is_last = experiment.iteration == experiment.options.train.total_iter
    for tries_left in reversed(range(LAST_SAVE_TRIES if is_last else 1)):
        try:
            save(run)
            return True
        except CheckpointWriteError as error:
            if stop or (is_last and not tries_left):
                raise
            newest = list_checkpoints(run.folder.checkpoints)
            kept = f"the newest good checkpoint is {newest[-1]}" if newest else "there is no checkpoint yet"
            then = "this is tried again until it succeeds" if is_last else "training goes on and retries soon"
            log.error("iter %d  %s. For now %s; %s", experiment.iteration, error, then, kept)
        if is_last:
            time.sleep(SECONDS_BETWEEN_TRIES)
            stop.settle()
    return False


def save_best_weights(run: Run) -> str | None:
    """The weights of the best validation so far; returns what went wrong."""
    try:
        _save_weights(run, "best", run.experiment.eval_generator.state_dict())
    except OSError as error:
        return f"cannot save {run.weights_path('best')}: {error}"
    return None


def _write(run: Run, state: dict[str, Any]) -> str | None:
    """Returns what went wrong, for all processes to know."""
    experiment = run.experiment
    try:
        run.stats.sync()
        average = state["ema"]
        weights = average if average is not None else state["networks"]["generator"]
        _save_weights(run, f"{experiment.iteration:08d}", weights)
        save_checkpoint(run.folder.checkpoints, experiment.iteration, state)
        keep = {run.best["iter"]} if run.best else set()
        keep_last = experiment.options.logger.keep_last
        for iteration in expired(run.folder.checkpoints, experiment.iteration, keep_last, keep):
            run.weights_path(f"{iteration:08d}").unlink(missing_ok=True)
            remove_checkpoint(run.folder.checkpoints, iteration)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"cannot save in {run.folder.root}: {error}; free some space or repair the folder, then --auto-resume"
    return None


def _require_equal_weights(run: Run) -> None:
    """Processes whose networks went apart (by a fault of hardware, or a network of one's own) must not go on."""
    experiment = run.experiment
    if experiment.processes.size == 1:
        return
    weights = [p for module in experiment.modules.values() for p in module.parameters() if not is_sharded(p)]
    if len(set(experiment.processes.collect(fingerprint(weights)))) > 1:
        raise CheckpointError(
            f"after iteration {experiment.iteration} the networks of the processes differ, so no checkpoint of them is "
            "written; --auto-resume goes back to the last one"
        )


def _save_weights(run: Run, label: str, weights: Mapping[str, Tensor]) -> None:
    experiment, options = run.experiment, run.experiment.options
    path = run.weights_path(label)
    # In a folder of its own first: a file system may refuse to rename over the file of an earlier validation.
    aside = path.parent / ".new.tmp" / path.name
    save_weights(
        aside,
        weights,
        arch=options.network_g.type,
        args=network_args(options, "network_g"),
        scale=options.scale,
        extra={
            "name": options.name,
            "iterations": str(experiment.iteration),
            "averaged": str(experiment.ema is not None).lower(),
            "options_sha256": options_hash(options),
        },
    )
    put_in_place(aside, path)
    aside.parent.rmdir()
