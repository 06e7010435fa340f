"""Gradients of one iteration, by one process or by several that share the batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_runs import random_images, tiny_options
from torch import Tensor, nn

from mvmsr.engine.build import Experiment, build
from mvmsr.engine.distributed_batch_norm import synchronise_batch_norm
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.objective import terms_by_network
from mvmsr.engine.step import Images, Networks
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES

UPDATES = ("alternating", "simultaneous")
COMBINATIONS = ("G", "GM", "GD", "GDM")
BATCH = 8
STILL = {f"train.optim_{n}": {"type": "SGD", "lr": 1e-30} for n in "gdm"}

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "L1Loss": ({}, {"reduction": "sum", "loss_weight": 0.01}),
    "MSELoss": ({}, {"reduction": "sum"}),
    "CharbonnierLoss": ({"eps": 1e-6}, {"reduction": "sum", "eps": 1e-6}),
    "WeightedTVLoss": ({}, {"reduction": "sum", "loss_weight": 0.01}),
    "PairLoss": ({}, {"reduction": "frobenius"}),
    "ManifoldMatchingLoss": ({}, {"diameter": "frobenius_sq"}, {"centroid_weight": 0.0}, {"diameter_weight": 0.0}),
    "DirectedTripletLoss": (
        {"hinge": "softplus", "direction_weight": 1.0},
        {"triplets": "shuffle", "direction_weight": 1.0},
        {"margin": 5.0},
        {"preset": "official", "direction_weight": 1.0},
    ),
    "GANLoss": (
        *({"gan_type": kind} for kind in ("vanilla", "lsgan", "wgan", "wgan_softplus", "hinge", "template")),
        *({"gan_type": "relativistic", "relativistic_reduction": how} for how in ("sum", "mean")),
    ),
    "PerceptualLoss": tuple({"criterion": how, "style_weight": 0.5} for how in ("l1", "l2", "fro")),
}
"""Options that choose different formulas; a registered loss that is not here is tried as it is by default."""


class _Features(nn.Module):
    """Stands in for a trained feature network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"conv": self.conv(images)}


class _Judge(_Features):
    """Stands in for a trained discriminator of natural pictures."""

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return self.conv(images).mean((1, 2, 3))[:, None]


class _Comparison(nn.Module):
    """Stands in for a metric."""

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        return (sr - gt).square().mean((1, 2, 3)).sqrt()


class WholeBatch(Term):
    """A loss of somebody's own that says nothing about itself: a function of all pictures at once."""

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The distance of the mean pictures, times the spread of brightness."""
        return (sr.mean(0) - gt.mean(0)).square().sum() * sr.mean((1, 2, 3)).std()


def make_term(name: str, options: dict[str, Any]) -> Term:
    """A registered loss."""
    constructor: Any = LOSSES.get(name)
    if name == "PerceptualLoss":
        return constructor(_Features(), {"conv": 1.0}, **options)
    if name == "NaturalnessLoss":
        return constructor(_Judge(), "made", **options)
    if name == "QualityLoss":
        return constructor(_Comparison(), "made", **options)
    return constructor(**options)


def in_double(folder: Path, pictures: Path, networks: str, update: str, changes: dict[str, Any]) -> Experiment:
    """An experiment in float64."""
    all_changes = {"datasets.train.batch_size_per_gpu": BATCH, **STILL, "train.update": update, **changes}
    own = folder / os.environ.get("RANK", "alone")
    experiment = build(tiny_options(own, pictures, networks, all_changes))
    for module in experiment.modules.values():
        module.double()
    experiment.networks = Networks(**experiment.modules)
    experiment.processes.at("the test")
    return experiment


def share(experiment: Experiment, seed: int = 0) -> Images:
    """This process's part of a batch of noise."""
    whole = random_images(BATCH, 16, seed)
    rank, count = experiment.processes.rank, BATCH // experiment.processes.size
    rows = slice(rank * count, (rank + 1) * count)
    return Images(whole.lq[rows].double(), whole.gt[rows].double(), whole.names[rows])


def _outcome(experiment: Experiment) -> dict[str, Any]:
    values, _ = run_iteration(experiment, [share(experiment, k) for k in range(experiment.options.train.accumulate)])
    found = {f"value {name}": np.array(float(value)) for name, value in values.items()}
    for name, player in experiment.players.items():
        for k, parameter in enumerate(player.parameters):
            assert parameter.grad is not None
            found[f"gradient {name} {k}"] = parameter.grad.numpy().copy()
        for key, buffer in experiment.modules[name].named_buffers():
            found[f"buffer {name} {key}"] = buffer.numpy().copy()
    return found


def of_combinations(folder: Path, pictures: Path) -> dict[str, dict[str, Any]]:
    """Every combination of networks and kind of update, two batches an iteration."""
    found = {}
    for networks in COMBINATIONS:
        for update in UPDATES:
            changes = {"train.accumulate": 2, "train.grad_clip": 0.5}
            experiment = in_double(folder, pictures, networks, update, changes)
            with experiment.processes.running():
                found[f"{networks} {update}"] = _outcome(experiment)
    return found


def of_terms(folder: Path, pictures: Path) -> dict[str, dict[str, Any]]:
    """Every registered loss with every formula it has, beside the losses that each network needs."""
    makers: dict[str, Callable[[], Term]] = {"WholeBatch": WholeBatch}
    for name in LOSSES.names():
        for k, options in enumerate(VARIANTS.get(name, ({},))):
            makers[f"{name} {k}"] = lambda name=name, options=options: make_term(name, options)
    found = {}
    for update in UPDATES:
        experiment = in_double(folder, pictures, "GDM", update, {})
        with experiment.processes.running():
            for label, make in makers.items():
                term = make().double()
                terms = {name: make_term(name, {}) for name in ("L1Loss", "GANLoss", "DirectedTripletLoss")}
                terms = {n: t for n, t in terms.items() if type(t) is not type(term)} | {"it": term}
                if type(term).__name__ == "L1Loss":
                    terms["MSELoss"] = make_term("MSELoss", {})
                objectives = terms_by_network(terms)
                for name, player in experiment.players.items():
                    player.terms = objectives[name]
                experiment.iteration = 0
                found[f"{label} {update}"] = _outcome(experiment)
    return found


def of_twenty_iterations(folder: Path, pictures: Path) -> dict[str, dict[str, Any]]:
    """The weights, averages and buffers that twenty iterations of Adam leave."""
    found = {}
    for update in UPDATES:
        adam = {f"train.optim_{n}": {"type": "Adam", "lr": 1e-3} for n in "gdm"}
        experiment = in_double(folder, pictures, "GDM", update, {**adam, "train.ema_decay": 0.9})
        assert experiment.ema is not None
        experiment.ema.double()
        with experiment.processes.running():
            for k in range(20):
                run_iteration(experiment, [share(experiment, k)])
        modules = {**experiment.modules, "average": experiment.ema}
        found[update] = {f"{n} {k}": t.numpy().copy() for n, m in modules.items() for k, t in m.state_dict().items()}
    return found


def of_layers(folder: Path, pictures: Path) -> dict[str, dict[str, Any]]:
    """Batch normalisation with all its options, twice; in one process PyTorch's own layers."""
    layers = {
        "1d": (nn.BatchNorm1d(4), (BATCH, 4)),
        "1d, long": (nn.BatchNorm1d(4, momentum=None), (BATCH, 4, 5)),
        "2d": (nn.BatchNorm2d(4, eps=0.1), (BATCH, 4, 3, 2)),
        "without weights": (nn.BatchNorm2d(4, affine=False, momentum=0.3), (BATCH, 4, 3, 2)),
        "without memory": (nn.BatchNorm2d(4, track_running_stats=False), (BATCH, 4, 3, 2)),
        "3d": (nn.BatchNorm3d(4), (BATCH, 4, 2, 2, 2)),
    }
    processes = in_double(folder, pictures, "G", "alternating", {}).processes
    found: dict[str, dict[str, Any]] = {}
    with processes.running():
        for label, (layer, shape) in layers.items():
            generator = torch.Generator().manual_seed(1)
            net: nn.Module = nn.Sequential(layer.double())
            net.load_state_dict({k: v + 0.5 if v.is_floating_point() else v for k, v in net.state_dict().items()})
            net = synchronise_batch_norm(net, processes) if processes.size > 1 else net
            for _ in range(2):
                x, target = (3 + torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
                x = x.requires_grad_()
                part = slice(processes.rank * BATCH // processes.size, (processes.rank + 1) * BATCH // processes.size)
                y = net(x[part])
                gradients = torch.autograd.grad((y * target[part] ** 2).sum(), [x, *net.parameters()])
            outcome = {"y": processes.gather(y), **dict(zip(["x", "weight", "bias"], gradients, strict=False))}
            for name in outcome.keys() - {"y"}:
                outcome[name] = processes.sum(outcome[name])
            outcome |= dict(net.named_buffers()) | {"judged": net.eval()(x)}
            found[label] = {name: tensor.detach().numpy().copy() for name, tensor in outcome.items()}
    return found
