"""Whether a run continues exactly: steps from one of its checkpoints are made again and compared with what it did."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvmsr.config import TrainOptions
from mvmsr.counting import counted
from mvmsr.engine.build import build, build_batches
from mvmsr.engine.check import check
from mvmsr.engine.checkpoint import list_checkpoints, load_checkpoint
from mvmsr.engine.compare_states import MEASURED, record_differences, state_differences
from mvmsr.engine.distributed_setup import cluster
from mvmsr.engine.iteration import run_iteration, to_device, training_record
from mvmsr.engine.logs import RunningMeans, read_stats
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.run_dir import run_dir_of, warn_of_changes
from mvmsr.engine.state import collect_state, take_up

_NOT_MADE_AGAIN = ("best", "data")
"""What a checkpoint holds that comes from validation and from the look at all pictures."""


@dataclass(frozen=True)
class Verdict:
    """What was compared, and what differs.

    Attributes:
        start, end: the checkpoint's iteration, and the last one that was made again.
        compared: with what, one phrase each.
        differences: the earliest first; empty where the resume is exact.
        repeats: whether two replays agree with each other; None where no second one was needed.
    """

    start: int
    end: int
    compared: tuple[str, ...]
    differences: tuple[str, ...]
    repeats: bool | None

    @property
    def is_exact(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def lines(self, most: int = 10) -> Iterable[str]:
        """For people."""
        what = f"{counted(self.end - self.start, 'iteration')} from checkpoint {self.start:08d} to iteration {self.end}"
        if self.is_exact:
            yield f"The resume is exact: {what} agree with {' and '.join(self.compared)}, bit for bit."
            return
        yield f"The resume is NOT exact: {what} differ from {' and '.join(self.compared)}. First:"
        yield from (f"  {line}" for line in self.differences[:most])
        if len(self.differences) > most:
            yield f"  and {len(self.differences) - most} more"
        if self.repeats:
            yield (
                "A second replay gives the first one's bits, so this machine is exact in itself: the run was made with "
                "other options, images, versions, number of threads or hardware, or its files have changed."
            )
        else:
            yield (
                "A second replay differs from the first one, too: the computation itself is not repeatable here (GPU "
                "kernels that add in any order, a network that draws random numbers of its own)."
            )


@dataclass(frozen=True)
class _Replay:
    records: list[dict[str, Any]]
    states: dict[int, dict[str, Any]]


def verify_resume(options: TrainOptions, steps: int) -> Verdict:
    """Make `steps` iterations from a checkpoint of the options' run again, in memory, and compare.

    With the records of `stats.jsonl` and with the checkpoints that lie in between; with a second replay where there
    are none. The run's folder is not written to.

    Raises:
        SetupError: several processes, or no run with a checkpoint to go on from.
        OptionsError, CheckpointError: as when the run is continued.
    """
    if cluster() is not None:
        raise SetupError("--verify-resume works in one process; start it without torchrun or srun")
    check(options)
    run = run_dir_of(options)
    paths = {int(path.name): path for path in list_checkpoints(run.checkpoints)}
    logged = read_stats(run.stats)
    start, end = choose_span(
        sorted(paths), max((r["iter"] for r in logged), default=0), steps, options.train.total_iter
    )
    warn_of_changes(run.root / "options.yml", options)
    later = {n: load_checkpoint(path) for n, path in paths.items() if start < n <= end}

    first = _replay(options, paths[start], end, later)
    compared: list[str] = []
    differences: list[str] = []
    theirs = [r for r in logged if start < r["iter"] <= end and any(k.startswith("lr/") for k in r)]
    if theirs:
        ours = [r for r in first.records if r["iter"] in {t["iter"] for t in theirs}]
        values = sum(len([k for k in r if k not in (*MEASURED, "iter")]) for r in theirs)
        compared.append(f"{counted(len(theirs), 'record')} of {run.stats.name} ({counted(values, 'value')})")
        differences += record_differences(theirs, ours)
    for number, expected in later.items():
        compared.append(f"checkpoint {number:08d}")
        differences += state_differences(_comparable(expected), _comparable(first.states[number]), f"at {number}")
    if compared and not differences:
        return Verdict(start, end, tuple(compared), (), None)
    second = _replay(options, paths[start], end, later)
    apart = [
        *record_differences(first.records, second.records),
        *state_differences(_comparable(first.states[end]), _comparable(second.states[end]), f"at {end}"),
    ]
    if not compared:
        return Verdict(start, end, ("a second replay",), tuple(apart), not apart)
    return Verdict(start, end, tuple(compared), tuple(differences), not apart)


def choose_span(checkpoints: list[int], logged: int, steps: int, total: int) -> tuple[int, int]:
    """The checkpoint to start from and the iteration to end at.

    The newest one behind which so many iterations have been logged; else the newest one that is not the run's end.

    Raises:
        SetupError: there is none.
    """
    usable = [n for n in checkpoints if n < total]
    if not usable:
        which = "only the one of its last iteration" if checkpoints else "none"
        raise SetupError(
            f"--verify-resume needs a checkpoint with iterations behind it, and the run has {which}; train first, or "
            "raise train.total_iter"
        )
    followed = [n for n in usable if n + steps <= logged]
    start = followed[-1] if followed else usable[-1]
    return start, min(start + steps, total)


def _replay(options: TrainOptions, path: Path, end: int, keep: Iterable[int]) -> _Replay:
    state = load_checkpoint(path)  # anew each time: optimizers go on in the very tensors that they are given
    experiment, means = build(options, run_dir_of(options).root), RunningMeans()
    best, detour = take_up(experiment, means, path, state)
    parts, start, total = options.train.accumulate, experiment.iteration, options.train.total_iter
    batches = build_batches(options)
    records, states = [], {}
    for iteration in range(start + 1, end + 1):
        drawn = [batches.batch(number) for number in detour.numbers_of(iteration, parts)]
        group = [to_device(batch, experiment.device, experiment.channels_last) for batch in drawn]
        values, step = run_iteration(experiment, group)
        means.add(values)
        if iteration % options.logger.print_freq == 0 or iteration == total:
            records.append({"iter": iteration, **training_record(experiment, step, means)})
        if iteration in keep or iteration == end:
            experiment.guard.flush()
            states[iteration] = copy.deepcopy(collect_state(experiment, means, best, detour, state.get("data", {})))
    return _Replay(records, states)


def _comparable(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in _NOT_MADE_AGAIN}
