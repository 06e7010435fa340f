"""Ten iterations on one batch lower what they minimise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_runs import random_images, tiny_options

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.engine.build import Experiment, build
from mvmsr.engine.iteration import run_iteration
from mvmsr.losses.geometry import centroid_distance
from mvmsr.losses.manifold import diameter_loss
from mvmsr.losses.triplet import DirectedTripletLoss

# One side learns and the other stands still; both at once need not lower either's loss.
STILL = {"type": "SGD", "lr": 1e-30}
FAST = {"type": "Adam", "lr": 1e-2}
WITHOUT_PIXELS = {"train.pixel_opt": None, "train.optim_g": FAST}


def _losses(experiment: Experiment, name: str, count: int = 11) -> list[float]:
    """The loss before each of `count` iterations on the same batch."""
    images = random_images()
    return [float(run_iteration(experiment, [images])[0][name]) for _ in range(count)]


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize(
    ("networks", "loss", "changes"),
    [
        ("G", "loss_g/pixel", {"train.optim_g": FAST}),
        ("GD", "loss_g/gan", {**WITHOUT_PIXELS, "train.optim_d": STILL}),
        ("GD", "loss_d/gan", {"train.optim_g": STILL, "train.optim_d": FAST}),
        ("GM", "loss_g/pair", {**WITHOUT_PIXELS, "train.optim_m": STILL, "train.manifold_opt": None}),
        ("GM", "loss_g/manifold", {**WITHOUT_PIXELS, "train.optim_m": STILL, "train.pair_opt": None}),
        ("GM", "loss_m/triplet", {"train.optim_g": STILL, "train.optim_m": FAST}),
    ],
)
def test_each_objective_is_lowered(
    networks: str, loss: str, changes: dict[str, Any], update: str, pictures: Path, tmp_path: Path
) -> None:
    changes = {"train.scheduler": None, "train.update": update, **changes}
    losses = _losses(build(tiny_options(tmp_path, pictures, networks, changes)), loss)
    assert losses[-1] < 0.98 * losses[0]


def test_a_network_of_basicsr(pictures: Path, tmp_path: Path) -> None:
    if import_basicsr() is None:
        pytest.skip("BasicSR is not installed")
    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1}
    changes = {"network_g": edsr, "train.optim_g": FAST, "train.scheduler": None}
    experiment = build(tiny_options(tmp_path, pictures, changes=changes))
    assert type(experiment.modules["generator"]).__module__.startswith("basicsr.")
    losses = _losses(experiment, "loss_g/pixel")
    assert losses[-1] < 0.98 * losses[0]


def test_the_presets_of_manifold_matching_differ_in_diameters_and_cosines(pictures: Path, tmp_path: Path) -> None:
    """Both from the same weights and pictures, against the losses' own functions."""
    images, found = random_images(), {}
    for preset in ("paper", "official"):
        changes = {"train.manifold_opt.preset": preset, "train.triplet_opt.preset": preset}
        changes["train.update"] = "simultaneous"
        experiment = build(tiny_options(tmp_path / preset, pictures, "GM", changes))
        values, step = run_iteration(experiment, [images])
        gt, sr = (step.observed[f"{name}_embeddings"] for name in ("gt", "sr"))
        view = step.critic_view()
        diameter, cosines = {"paper": ("abs_diff", "per_sample"), "official": ("frobenius_sq", "batch_sum")}[preset]
        manifold = centroid_distance(gt, sr) + diameter_loss(gt, sr, diameter)
        index = (view.positive_index, view.negative_index)
        triplet = DirectedTripletLoss(cos_reduce=cosines, triplets="shuffle")(gt, sr, *index)
        assert values["loss_g/manifold"].item() == pytest.approx(manifold.item(), rel=1e-4)
        assert values["loss_m/triplet"].item() == pytest.approx(triplet.item(), rel=1e-4)
        found[preset] = values
    for name in ("loss_g/manifold", "loss_m/triplet"):
        assert found["paper"][name].item() != pytest.approx(found["official"][name].item(), rel=1e-3)
