"""The metric network's pass for two objectives."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import random_images, tiny_options
from torch import Tensor, nn

from mvmsr.archs import MetricNet
from mvmsr.engine.apart import embed_apart
from mvmsr.engine.build import build
from mvmsr.engine.iteration import run_iteration


def _pictures() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    gt, sr = torch.rand(2, 4, 3, 16, 16, dtype=torch.float64)
    return gt, sr.requires_grad_()


def _network(norm: str) -> nn.Module:
    torch.manual_seed(1)
    return MetricNet(num_feat=16, num_layer=3, embedding_dim=5, norm=norm).double()


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_each_gradient_goes_its_own_way(norm: str) -> None:
    gt, sr = _pictures()
    plain, apart = _network(norm), _network(norm)
    once = plain(torch.cat([gt, sr]))
    for_parameters, for_pictures = embed_apart(apart, gt, sr)
    torch.testing.assert_close(for_parameters, once)
    torch.testing.assert_close(for_pictures, once)

    leaves = [*apart.parameters(), sr]
    first, second = torch.randn(2, *once.shape, dtype=torch.float64)
    found = torch.autograd.grad((for_parameters * first + for_pictures * second).sum(), leaves)
    parameters = torch.autograd.grad((once * first).sum(), [*plain.parameters()], retain_graph=True)
    (pictures,) = torch.autograd.grad((once * second).sum(), [sr])
    torch.testing.assert_close(found, (*parameters, pictures))


def test_running_statistics_follow_one_pass() -> None:
    gt, sr = _pictures()
    plain, apart = _network("batch"), _network("batch")
    plain(torch.cat([gt, sr]))
    embed_apart(apart, gt, sr)
    torch.testing.assert_close(dict(apart.named_buffers()), dict(plain.named_buffers()))


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="compilation needs a C++ compiler")
@pytest.mark.parametrize("match_after_iter", [0, 10])
def test_a_compiled_iteration_has_the_gradients_of_a_plain_one(
    tmp_path: Path, pictures: Path, match_after_iter: int
) -> None:
    outcomes = []
    for compiles in (False, True):
        changes = {
            "compile": compiles,
            "train.update": "simultaneous",
            "train.match_after_iter": match_after_iter,
            "network_m.num_feat": 64,  # so that the last layer is a product
        }
        experiment = build(tiny_options(tmp_path, pictures, "GM", changes))
        assert (experiment.networks.embed_apart is not None) == compiles
        values, step = run_iteration(experiment, [random_images(4, 16, 0)])
        gradients = {name: [p.grad for p in player.parameters] for name, player in experiment.players.items()}
        outcomes.append((values, step.observed, gradients, dict(experiment.modules["metric_net"].named_buffers())))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-4, atol=1e-6)
