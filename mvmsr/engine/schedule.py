"""Learning rates as pure functions of the iteration, so that resuming needs no scheduler state.

Types and keys are BasicSR's: `MultiStepLR`, `MultiStepRestartLR`, `CosineAnnealingRestartLR`; and `CosineAnnealingLR`
over the whole run. A linear warm-up from zero may precede any of them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

Schedule = Callable[[int], float]
"""Maps the number of finished iterations to a factor of the initial learning rate."""


def constant() -> Schedule:
    """The initial learning rate throughout."""
    return lambda iteration: 1.0


def multi_step(
    milestones: tuple[int, ...] = (),
    gamma: float = 0.1,
    restarts: tuple[int, ...] = (0,),
    restart_weights: tuple[float, ...] = (1.0,),
) -> Schedule:
    """`gamma` to the number of milestones passed since the last restart, times that restart's weight.

    Before the first restart the weight is 1.

    Raises:
        ValueError: the restarts and their weights differ in number.
    """
    if len(restarts) != len(restart_weights):
        raise ValueError(f"restarts and restart_weights differ in length: {len(restarts)} and {len(restart_weights)}")
    milestones = tuple(sorted(milestones))
    weights = {0: 1.0, **dict(zip(restarts, restart_weights, strict=True))}
    begins = sorted(weights)

    def factor(iteration: int) -> float:
        begin = begins[bisect_right(begins, iteration) - 1]
        passed = bisect_right(milestones, iteration) - bisect_right(milestones, begin)
        return weights[begin] * gamma**passed

    return factor


def cosine(eta_min: float = 0.0, *, base_lr: float, total_iter: int) -> Schedule:
    """Half a cosine from the initial rate to `eta_min` over the whole run; arguments as for `cosine_restart`."""
    return cosine_restart((total_iter,), (1.0,), eta_min, base_lr=base_lr)


def cosine_restart(
    periods: tuple[int, ...], restart_weights: tuple[float, ...] = (1.0,), eta_min: float = 0.0, *, base_lr: float
) -> Schedule:
    """Half a cosine from the initial rate times the period's weight to `eta_min`, once in each period.

    Args:
        periods: lengths in iterations.
        eta_min: the lowest learning rate (not a factor).
        base_lr: the initial learning rate.

    Raises:
        ValueError: no periods, one without length, or weights of another number.
    """
    if not periods or min(periods) < 1:
        raise ValueError(f"periods: expected one or more positive lengths, got {list(periods)}")
    if len(periods) != len(restart_weights):
        raise ValueError(f"periods and restart_weights differ in length: {len(periods)} and {len(restart_weights)}")
    ends = tuple(accumulate(periods))
    floor = eta_min / base_lr

    def factor(iteration: int) -> float:
        current = min(bisect_right(ends, iteration), len(periods) - 1)
        done = min((iteration - (ends[current] - periods[current])) / periods[current], 1.0)
        return floor + restart_weights[current] * 0.5 * (1 - floor) * (1 + math.cos(math.pi * done))

    return factor


def warm_up(schedule: Schedule, warmup_iter: int) -> Schedule:
    """`schedule`, preceded by a linear rise of the rate over the first `warmup_iter` iterations."""
    if warmup_iter <= 0:
        return schedule
    return lambda iteration: schedule(iteration) * min((iteration + 1) / warmup_iter, 1.0)


def never_reached(
    milestones: Sequence[int], periods: Sequence[int], warmup_iter: int, total_iter: int
) -> dict[str, str]:
    """What of a schedule lies outside a run of `total_iter` iterations, by key; empty where the two fit.

    A milestone at the very end changes nothing, and is often written on purpose.
    """
    found = {}
    if late := [milestone for milestone in milestones if milestone > total_iter]:
        found["milestones"] = (
            f"{', '.join(map(str, late))} {'lies' if len(late) == 1 else 'lie'} beyond total_iter {total_iter}, so the "
            "learning rate is not lowered there; scale the milestones with total_iter"
        )
    if periods and (length := sum(periods)) != total_iter:
        then = (
            f"stays at eta_min for the last {total_iter - length} iterations"
            if length < total_iter
            else "does not come down to eta_min"
        )
        found["periods"] = f"they add up to {length}, but total_iter is {total_iter}: the learning rate {then}"
    if warmup_iter > total_iter:
        found["warmup_iter"] = (
            f"{warmup_iter} is more than total_iter {total_iter}, so the learning rate never reaches lr"
        )
    return found


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "MultiStepLR": multi_step,
    "MultiStepRestartLR": multi_step,
    "CosineAnnealingLR": cosine,
    "CosineAnnealingRestartLR": cosine_restart,
}
"""Schedules by their type in an options file, which gives their arguments but for `base_lr` and `total_iter`."""
