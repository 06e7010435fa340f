"""Learning rates against torch's schedulers, BasicSR's, and by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.engine.schedule import (
    SCHEDULES,
    Schedule,
    constant,
    cosine_restart,
    multi_step,
    never_reached,
    warm_up,
)


def _rates_of(make: Callable[[torch.optim.Optimizer], LRScheduler], count: int) -> list[float]:
    """The factors that a stateful scheduler gives to the first `count` iterations."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    scheduler = make(optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    while len(rates) < count:
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def _factors(schedule: Schedule, count: int) -> list[float]:
    return [schedule(iteration) for iteration in range(count)]


@pytest.mark.parametrize("milestones", [(), (3,), (3, 7), (7, 3), (3, 3, 5), (1, 2, 40)])
def test_multi_step_is_torchs(milestones: tuple[int, ...]) -> None:
    expected = _rates_of(lambda o: MultiStepLR(o, list(milestones), gamma=0.5), 12)
    assert _factors(multi_step(milestones, 0.5), 12) == pytest.approx(expected)


@pytest.mark.parametrize("eta_min", [0.0, 0.25])
def test_cosine_is_torchs(eta_min: float) -> None:
    expected = _rates_of(lambda o: CosineAnnealingLR(o, T_max=20, eta_min=eta_min), 21)
    schedule = SCHEDULES["CosineAnnealingLR"](eta_min=eta_min, base_lr=1.0, total_iter=20)
    assert _factors(schedule, 21) == pytest.approx(expected)


def test_cosine_by_hand() -> None:
    schedule = SCHEDULES["CosineAnnealingLR"](eta_min=1e-5, base_lr=1e-4, total_iter=8)
    half_way = math.cos(math.pi / 4) / 2
    assert [schedule(i) * 1e-4 for i in (0, 2, 4, 8, 9)] == pytest.approx(
        [1e-4, 1e-5 + 9e-5 * (0.5 + half_way), 5.5e-5, 1e-5, 1e-5]
    )


def test_cosine_restarts_by_hand() -> None:
    schedule = cosine_restart((4, 2), (1.0, 0.5), eta_min=0.0, base_lr=1.0)
    assert _factors(schedule, 8) == pytest.approx(
        [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0.5, 0.25, 0, 0]
    )


def test_multi_step_restarts_by_hand() -> None:
    schedule = multi_step((2, 4, 7), 0.1, restarts=(0, 5), restart_weights=(1.0, 0.5))
    assert _factors(schedule, 9) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.5, 0.5, 0.05, 0.05])


@pytest.mark.parametrize(
    ("milestones", "restarts", "weights"),
    [
        ((2, 4, 7), (0, 5), (1.0, 0.5)),
        ((2, 4, 7), (0,), (1.0,)),
        ((2, 5, 7), (0, 5), (1.0, 0.5)),  # a milestone at a restart
        ((2, 4, 7), (5,), (0.5,)),  # no restart at the beginning
        ((2, 4, 7), (6, 3), (0.5, 0.25)),  # in no order
        ((2, 4, 7), (), ()),
    ],
)
def test_multi_step_restarts_are_basicsrs(
    milestones: tuple[int, ...], restarts: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    if import_basicsr() is None:
        pytest.skip("BasicSR is not installed")
    theirs: Any = import_basicsr("basicsr.models.lr_scheduler")
    expected = _rates_of(lambda o: theirs.MultiStepRestartLR(o, milestones, 0.1, restarts, weights), 10)
    assert _factors(multi_step(milestones, 0.1, restarts, weights), 10) == pytest.approx(expected)


def test_cosine_restarts_are_basicsrs_within_periods() -> None:
    if import_basicsr() is None:
        pytest.skip("BasicSR is not installed")
    theirs: Any = import_basicsr("basicsr.models.lr_scheduler")
    make = lambda o: theirs.CosineAnnealingRestartLR(o, (4, 5), (1.0, 0.5), eta_min=0.1)  # noqa: E731
    expected = _rates_of(make, 10)
    factors = _factors(cosine_restart((4, 5), (1.0, 0.5), 0.1, base_lr=1.0), 10)
    # Where a period ends BasicSR stays an iteration longer at the lowest rate; ours begins the next period.
    assert expected[4] == pytest.approx(0.1)
    assert factors[4] == pytest.approx(0.1 + 0.5 * 0.9)
    del factors[4], expected[4]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize("name", ["MultiStepLR", "MultiStepRestartLR"])
def test_every_option_reaches_the_steps(name: str) -> None:
    steps = {"milestones": (2, 4, 7), "gamma": 0.2, "restarts": (0, 5), "restart_weights": (1.0, 0.5)}
    schedule = SCHEDULES[name](**steps)
    assert _factors(schedule, 9) == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.5, 0.5, 0.1, 0.1])


def test_every_option_reaches_the_restarting_cosine() -> None:
    options = {"periods": (4, 2), "restart_weights": (1.0, 0.5), "eta_min": 0.02}
    schedule = SCHEDULES["CosineAnnealingRestartLR"](**options, base_lr=0.1)
    half = math.sqrt(0.125)
    assert _factors(schedule, 7) == pytest.approx([1, 0.6 + 0.8 * half, 0.6, 0.6 - 0.8 * half, 0.6, 0.4, 0.2])


def test_warm_up_by_hand() -> None:
    assert _factors(warm_up(constant(), 4), 6) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert _factors(warm_up(multi_step((1,), 0.5), 2), 3) == [0.5, 0.5, 0.5]
    for none in (0, -1):
        assert _factors(warm_up(constant(), none), 2) == [1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multi_step((1,), restarts=(0, 5)), "restarts and restart_weights differ in length: 2 and 1"),
        (lambda: cosine_restart((4, 4), base_lr=1.0), "periods and restart_weights differ in length: 2 and 1"),
        (lambda: cosine_restart((), (), base_lr=1.0), r"periods: expected one or more positive lengths, got \[\]"),
        (lambda: cosine_restart((4, 0), (1.0, 1.0), base_lr=1.0), r"positive lengths, got \[4, 0\]"),
    ],
)
def test_what_schedules_refuse(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("milestones", "periods", "warmup", "found"),
    [
        ((), (), -1, {}),
        ((4, 10), (), 10, {}),
        ((4, 11), (), -1, {"milestones": "11 lies beyond total_iter 10"}),
        (
            (20, 40),
            (),
            -1,
            {"milestones": "20, 40 lie beyond total_iter 10, so the learning rate is not lowered there"},
        ),
        ((), (5, 5), -1, {}),
        ((), (4, 4), -1, {"periods": "add up to 8, .* stays at eta_min for the last 2 iterations"}),
        ((), (6, 6), -1, {"periods": "add up to 12, .* does not come down to eta_min"}),
        ((), (), 11, {"warmup_iter": "11 is more than total_iter 10"}),
    ],
)
def test_what_a_run_never_comes_to(
    milestones: tuple[int, ...], periods: tuple[int, ...], warmup: int, found: dict[str, str]
) -> None:
    said = never_reached(milestones, periods, warmup, 10)
    assert said.keys() == found.keys()
    for key, message in found.items():
        assert re.search(message, said[key])
