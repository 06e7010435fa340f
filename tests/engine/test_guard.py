"""A value that is not finite stops the run, and never reaches the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import differences, final_state, random_images, tiny_options
from torch import Tensor, nn

from mvmsr.engine.build import Experiment, build
from mvmsr.engine.checkpoint import list_checkpoints
from mvmsr.engine.guard import FiniteGuard, NonFiniteLossError
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.loop import train
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES


class _Spoilt(Term):
    """The mean of a tensor, or not-a-number at one call."""

    def __init__(self, loss_weight: float = 1.0, bad_call: int = 3, only_gradient: bool = False) -> None:
        super().__init__(loss_weight)
        self.bad_call, self.only_gradient, self.calls = bad_call, only_gradient, 0

    def _value(self, tensor: Tensor) -> Tensor:
        self.calls += 1
        if self.calls != self.bad_call:
            return tensor.mean()
        if self.only_gradient:  # sqrt has an infinite slope at 0
            return (tensor - tensor.detach()).abs().sqrt().mean()
        return tensor.mean() * float("nan")


class SpoiltForG(_Spoilt):
    """A generator's term."""

    def forward(self, sr: Tensor) -> Tensor:
        return self._value(sr)


class SpoiltForM(_Spoilt):
    """A metric network's term."""

    objective = "metric_net"

    def forward(self, sr_embeddings: Tensor) -> Tensor:
        return self._value(sr_embeddings)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    for term in (SpoiltForG, SpoiltForM):
        LOSSES.register()(term)
    yield
    for term in (SpoiltForG, SpoiltForM):
        del LOSSES._entries[term.__name__]


def _trained(experiment: Experiment) -> dict[str, Any]:
    """Parameters and optimizer states. (BatchNorm's running statistics move with every forward pass.)"""
    return {
        name: {
            "parameters": [p.detach().clone() for p in player.parameters],
            "optimizer": copy.deepcopy(player.optimizer.state_dict()["state"]),
        }
        for name, player in experiment.players.items()
    }


def _iterate(experiment: Experiment, count: int) -> None:
    for _ in range(count):
        run_iteration(experiment, [random_images(seed=experiment.iteration)])


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize(
    ("term", "network"), [("SpoiltForG", "generator"), ("SpoiltForM", "metric_net")], ids=["generator", "metric_net"]
)
def test_the_message_names_term_network_iteration_and_pictures(
    term: str, network: str, update: str, pictures: Path, tmp_path: Path
) -> None:
    changes = {"train.spoilt_opt": {"type": term}, "train.update": update}
    experiment = build(tiny_options(tmp_path, pictures, "GM", changes))
    _iterate(experiment, 2)
    before = _trained(experiment)
    with pytest.raises(NonFiniteLossError) as caught:
        _iterate(experiment, 1)
    message = str(caught.value)
    assert "iteration 3: spoilt = nan, gradient norm = nan in the update of the " + network in message
    assert "images picture0, picture1, picture2, picture3." in message
    assert experiment.iteration == 2
    untouched = ["generator", "metric_net"] if update == "simultaneous" else [network]
    after = _trained(experiment)
    assert [d for name in untouched for d in differences(before[name], after[name], name)] == []


def test_an_infinite_gradient_of_a_finite_loss(pictures: Path, tmp_path: Path) -> None:
    changes = {"train.spoilt_opt": {"type": "SpoiltForG", "only_gradient": True, "bad_call": 1}}
    experiment = build(tiny_options(tmp_path, pictures, changes=changes))
    before = _trained(experiment)
    with pytest.raises(NonFiniteLossError, match=r"iteration 1: gradient norm = (nan|inf) in the update of the gen"):
        _iterate(experiment, 1)
    assert differences(before, _trained(experiment)) == []


def test_no_checkpoint_of_the_bad_iteration(pictures: Path, tmp_path: Path, console: Console) -> None:
    changes = {"train.spoilt_opt": {"type": "SpoiltForG", "bad_call": 5}, "logger.save_checkpoint_freq": 2}
    with pytest.raises(NonFiniteLossError, match="iteration 4"):
        train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    assert [p.name for p in list_checkpoints(tmp_path / "tiny" / "checkpoints")] == ["00000002"]
    weights = final_state(tmp_path / "tiny")["networks"]["generator"].values()
    assert all(torch.isfinite(w).all() for w in weights if w.is_floating_point())


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
def test_a_late_look_finds_the_update_skipped_on_the_device(optimizer: str, pictures: Path, tmp_path: Path) -> None:
    changes = {
        "train.spoilt_opt": {"type": "SpoiltForG", "bad_call": 2},
        "train.optim_g": {"type": optimizer, "lr": 1e-3},
    }
    experiment = build(tiny_options(tmp_path, pictures, changes=changes))
    experiment.guard = FiniteGuard(experiment.device, lag=2)
    _iterate(experiment, 1)
    before = _trained(experiment)
    _iterate(experiment, 1)
    assert differences(before, _trained(experiment)) == []
    _iterate(experiment, 1)
    assert differences(before, _trained(experiment)) != []
    with pytest.raises(NonFiniteLossError, match="iteration 2: spoilt = nan"):
        _iterate(experiment, 1)


def test_flushing_looks_at_everything(pictures: Path, tmp_path: Path) -> None:
    changes = {"train.spoilt_opt": {"type": "SpoiltForG", "bad_call": 1}}
    experiment = build(tiny_options(tmp_path, pictures, changes=changes))
    experiment.guard = FiniteGuard(experiment.device, lag=2)
    _iterate(experiment, 1)
    with pytest.raises(NonFiniteLossError, match="iteration 1"):
        experiment.guard.flush()
    experiment.guard.flush()  # said once


def test_an_optimizer_that_cannot_skip_is_looked_at_at_once(pictures: Path, tmp_path: Path) -> None:
    changes = {"train.spoilt_opt": {"type": "SpoiltForG", "bad_call": 2}, "train.optim_g": {"type": "RMSprop"}}
    experiment = build(tiny_options(tmp_path, pictures, changes=changes))
    experiment.guard = FiniteGuard(experiment.device, lag=2)
    _iterate(experiment, 1)
    before = _trained(experiment)
    with pytest.raises(NonFiniteLossError, match="iteration 2: spoilt = nan"):
        _iterate(experiment, 1)
    assert differences(before, _trained(experiment)) == []


@pytest.mark.parametrize(
    ("value", "finite"), [(1.0, True), (-1e30, True), (float("inf"), False), (float("nan"), False)]
)
def test_what_is_finite(value: float, finite: bool) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters())
    guard = FiniteGuard(torch.device("cpu"))
    values = {"good": torch.tensor(0.0), "odd": torch.tensor(value)}
    if finite:
        guard.check(1, "generator", values, ("a",), optimizer)
    else:
        with pytest.raises(NonFiniteLossError, match=f"odd = {value} in"):
            guard.check(1, "generator", values, ("a",), optimizer)
