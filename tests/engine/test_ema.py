"""The moving average by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import random_images, tiny_options
from torch import nn

from mvmsr.engine.build import build
from mvmsr.engine.ema import ema_decay_at, make_ema, update_ema
from mvmsr.engine.iteration import generator_terms, generator_updates, run_iteration


def test_three_updates_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    average = make_ema(network)
    seen = []
    for value in (3.0, 5.0, 7.0):
        nn.init.constant_(network.weight, value)
        update_ema(average, network, 0.5)
        seen.append(average.weight.item())
    assert seen == [2.0, 3.5, 5.25]
    assert network.weight.item() == 7.0


def test_buffers_follow() -> None:
    network = nn.BatchNorm2d(1)
    average = make_ema(network)
    network.running_mean.fill_(10.0)
    network.running_var.fill_(3.0)
    network.num_batches_tracked.fill_(7)
    update_ema(average, network, 0.9)
    assert average.running_mean.item() == pytest.approx(1.0)
    assert average.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert average.num_batches_tracked.item() == 7
    assert network.running_mean.item() == 10.0


def test_the_average_is_frozen_and_evaluates() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    average = make_ema(network)
    assert not average.training
    assert network.training
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in network.parameters())
    before = network[0].weight.detach().clone()
    update_ema(average, network, 0.9)
    assert torch.equal(network[0].weight, before)
    assert average[0].weight.data_ptr() != network[0].weight.data_ptr()


def test_of_equal_networks_it_is_the_network() -> None:
    network = nn.Conv2d(3, 3, 3)
    average = make_ema(network)
    update_ema(average, network, 0.999)
    torch.testing.assert_close(average.weight, network.weight, rtol=0, atol=0)


def test_a_young_average_forgets_its_random_start() -> None:
    assert [ema_decay_at(0.999, t) for t in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert ema_decay_at(0.999, 10**6) == 0.999
    assert ema_decay_at(0.05, 0) == 0.05
    left = 1.0
    for t in range(2500):
        left *= ema_decay_at(0.999, t)
    assert left < 1e-9 < 0.999**2500


def test_an_iteration_averages_with_the_decay_of_its_age(pictures: Path, tmp_path: Path) -> None:
    experiment = build(tiny_options(tmp_path, pictures, changes={"train.ema_decay": 0.15}))
    assert experiment.ema is not None
    expected = experiment.modules["generator"].conv_last.bias.detach().clone()
    for decay in (0.1, 0.15, 0.15):  # 1/10, then 2/11 and 3/12 are above 0.15
        run_iteration(experiment, [random_images()])
        expected = decay * expected + (1 - decay) * experiment.modules["generator"].conv_last.bias.detach()
        torch.testing.assert_close(experiment.ema.conv_last.bias.detach(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("matching_alone", [False, True])
@pytest.mark.parametrize("networks", ["GM", "GDM"])
@pytest.mark.parametrize(("every", "after", "match_after"), [(1, 0, 0), (3, 0, 4), (2, 5, 3), (3, 6, 8), (1, 7, 2)])
def test_updates_of_the_generator_are_counted(
    every: int, after: int, match_after: int, networks: str, matching_alone: bool, pictures: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"train.match_after_iter": match_after}
    if "D" in networks:
        changes |= {"train.net_d_iters": every, "train.net_d_init_iters": after}
    experiment = build(tiny_options(tmp_path, pictures, networks, changes))
    if matching_alone:
        terms = experiment.players["generator"].terms
        terms[:] = [term for term in terms if term.uses_embeddings]
    count = 0
    for iteration in range(1, 20):
        count += bool(generator_terms(experiment, iteration))
        assert generator_updates(experiment, iteration) == count


def test_a_generator_that_waits_is_not_averaged_yet(pictures: Path, tmp_path: Path) -> None:
    changes = {"train.ema_decay": 0.999, "train.net_d_iters": 2, "train.net_d_init_iters": 4}
    experiment = build(tiny_options(tmp_path, pictures, "GD", changes))
    assert experiment.ema is not None
    expected = experiment.ema.conv_last.bias.detach().clone()
    for iteration in range(1, 9):
        run_iteration(experiment, [random_images()])
        if iteration in (6, 8):
            decay = {6: 1 / 10, 8: 2 / 11}[iteration]
            expected = decay * expected + (1 - decay) * experiment.modules["generator"].conv_last.bias.detach()
        torch.testing.assert_close(experiment.ema.conv_last.bias.detach(), expected, rtol=1e-6, atol=0)
