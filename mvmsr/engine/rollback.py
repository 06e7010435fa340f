"""When a value is not finite: what it was is written down, and the run goes back to a checkpoint, if it may."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from mvmsr.data.batches import TrainBatches
from mvmsr.data.image_io import write_rgb
from mvmsr.engine.checkpoint import latest_checkpoint
from mvmsr.engine.finite_state import non_finite_state
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.logs import StatsLog
from mvmsr.engine.run import Detour, Run
from mvmsr.engine.state import restore_state

log = logging.getLogger(__name__)


def go_back(run: Run, batches: TrainBatches, error: NonFiniteLossError) -> None:
    """Dump the batch; then take up the newest checkpoint, to go on from it with other pictures.

    From the same state the same batches would lead to the same NaN. So all that were drawn since the checkpoint are
    left out, and the run goes on with those behind the bad one. Where the process dies before the next checkpoint,
    the next one does the same again.

    Raises:
        NonFiniteLossError: the run may not go back any more, or there is no checkpoint to go back to.
    """
    experiment, train = run.experiment, run.experiment.options.train
    limit = train.max_rollbacks
    folder = dump(run, batches, error)
    experiment.guard.forget()
    text = f"{error} Its images are in {folder}."
    found = experiment.processes.first("reading the checkpoint", lambda: latest_checkpoint(run.folder.checkpoints))
    obstacle = _obstacle(found is not None, run.detour.rollbacks, limit)
    if found is None or obstacle is not None:
        raise NonFiniteLossError(f"{text} {obstacle}", error.iteration, error.network) from error
    path, state = found
    skipped = run.detour.numbers_of(error.iteration, train.accumulate).stop
    run.best = restore_state(experiment, run.means, state)
    run.detour = Detour(run.detour.rollbacks + 1, skipped - experiment.iteration * train.accumulate)
    run.stats.close()
    if experiment.processes.is_first:
        run.stats = StatsLog(run.folder.root, experiment.iteration, experiment.options.logger.use_tb_logger)
    log.warning(
        "%s Going back to %s and continuing with other images (%d of %d times)",
        text,
        path,
        run.detour.rollbacks,
        limit,
    )


def _obstacle(has_checkpoint: bool, rollbacks: int, limit: int) -> str | None:
    """Why the run may not go back, and what can be done; None where it may."""
    if not has_checkpoint:
        return "There is no checkpoint yet to go back to; lower the learning rate, or set train.grad_clip."
    if rollbacks < limit:
        return None
    if limit:
        return f"The run went back {limit} times already (train.max_rollbacks)."
    return (
        "To go back to the last checkpoint and continue with other images: --auto-resume --set train.max_rollbacks=3."
    )


def dump(run: Run, batches: TrainBatches, error: NonFiniteLossError) -> Path:
    """The batch of the bad update as pictures, and what is known of it as JSON; never an error of its own."""
    experiment = run.experiment
    rank = experiment.processes.rank
    folder = run.folder.root / "nonfinite" / f"{error.iteration:08d}_{error.network.replace(' ', '_')}"
    about: dict[str, Any] = {
        "iteration": error.iteration,
        "network": error.network,
        "values": error.values,
        "message": str(error),
        "state": non_finite_state(experiment) or "all weights, averages and optimizer states are finite",
        "learning_rates": {n: p.optimizer.param_groups[0]["lr"] for n, p in experiment.players.items()},
        "rollbacks": run.detour.rollbacks,
        "batches": [],
    }
    try:
        for number in run.detour.numbers_of(error.iteration, experiment.options.train.accumulate):
            batch = batches.batch(number)
            about["batches"].append({"number": number, "pictures": list(batch.names)})
            for k in range(len(batch.names)):
                for kind, pictures in (("lq", batch.lq), ("gt", batch.gt)):
                    name = f"{number}_{rank}_{k}_{kind}.png"
                    write_rgb(folder / name, pictures[k].permute(1, 2, 0).contiguous().numpy())
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(about, indent=1, ensure_ascii=False)
        (folder / f"process{rank}.json").write_text(text + "\n", encoding="utf-8")
    except (OSError, ValueError) as problem:
        log.error("The batch cannot be written to %s: %s", folder, problem)
    return folder
