"""Mixed precisions train like float32, within their rounding; float16's scaled gradients are unscaled before use."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import random_images, tiny_options

from mvmsr.engine import build as build_module
from mvmsr.engine.build import Experiment, build
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.logs import RunningMeans
from mvmsr.engine.mixed_precision import ExactInputs
from mvmsr.engine.run import Detour
from mvmsr.engine.state import collect_state, restore_state
from mvmsr.engine.step import Images


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch, pictures: Path, tmp_path: Path) -> Any:
    """A function that builds an experiment in 16-mixed, which options refuse on a CPU."""

    def make(scale: float, changes: dict[str, Any]) -> Experiment:
        monkeypatch.setattr(build_module, "pick_precision", lambda *_: "16-mixed")
        experiment = build(tiny_options(tmp_path, pictures, "GDM", changes))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        experiment.fabric.strategy.precision = ExactInputs("16-mixed", "cpu", scaler)
        return experiment

    return make


def _values(experiment: Experiment) -> dict[str, float]:
    return {name: float(value) for name, value in run_iteration(experiment, [random_images()])[0].items()}


@pytest.mark.parametrize("clip", [None, 1e-3], ids=["no clipping", "clipping"])
def test_float16_reports_unscaled_gradients(clip: float | None, half: Any, pictures: Path, tmp_path: Path) -> None:
    exact = build(tiny_options(tmp_path, pictures, "GDM", {"train.grad_clip": clip}))
    expected = _values(exact)
    experiment = half(2.0**10, {"train.grad_clip": clip})
    assert _values(experiment) == pytest.approx(expected, rel=0.1)
    for name, player in experiment.players.items():
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in player.parameters]))
        assert float(norm) == pytest.approx(clip or expected[f"grad_norm/{name}"], rel=0.1)


def test_an_overflow_in_float16_costs_one_step_and_no_run(half: Any) -> None:
    experiment = half(2.0**60, {})
    generator = experiment.players["generator"]
    before = [p.detach().clone() for p in generator.parameters]
    _values(experiment)
    assert all(torch.equal(a, b) for a, b in zip(before, generator.parameters, strict=True))
    assert experiment.fabric.strategy.precision.scaler.get_scale() < 2.0**60


def test_float16_goes_on_from_a_checkpoint_after_a_step_that_was_broken_off(half: Any) -> None:
    experiment = half(2.0**10, {})
    means = RunningMeans()
    state = copy.deepcopy(collect_state(experiment, means, {}, Detour(), {}))
    images = random_images()
    with pytest.raises(NonFiniteLossError):
        run_iteration(experiment, [Images(images.lq * math.nan, images.gt, images.names)])
    restore_state(experiment, means, state)
    assert all(map(math.isfinite, _values(experiment).values()))
    assert experiment.fabric.strategy.precision.scaler.get_scale() == 2.0**10


def test_bfloat16_leaves_every_networks_pictures_as_they_are(pictures: Path, tmp_path: Path) -> None:
    """Rounded to bfloat16, bytes are too bright by 0.17 levels, and generators learn to darken."""
    options = tiny_options(tmp_path, pictures, "GDM", {"precision": "bf16-mixed", "network_g.global_skip": "bicubic"})
    experiment = build(options)
    got: dict[str, list[torch.Tensor]] = {name: [] for name in experiment.modules}
    for name, module in experiment.modules.items():
        module.register_forward_pre_hook(lambda _, args, into=got[name]: into.append(args[0].detach().clone()))
    images = random_images()
    run_iteration(experiment, [images])
    assert all(picture.dtype == torch.float32 for pictures in got.values() for picture in pictures)
    assert torch.equal(got["generator"][0], images.lq)
    assert any(torch.equal(picture, images.gt) for picture in got["discriminator"])


def test_bfloat16_keeps_the_brightness_of_a_skip_connection(pictures: Path, tmp_path: Path) -> None:
    """A generator that adds nothing gives back each of the 256 levels, not the next one of bfloat16."""
    options = tiny_options(tmp_path, pictures, "G", {"precision": "bf16-mixed", "network_g.global_skip": "bicubic"})
    experiment = build(options)
    last = experiment.modules["generator"].conv_last
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    lq = (torch.arange(256.0) / 255).view(256, 1, 1, 1).expand(256, 3, 4, 4)
    with torch.no_grad():
        sr = experiment.networks.generator(lq)
    torch.testing.assert_close(sr[:, :, 8, 8], lq[:, :, 2, 2], atol=1e-6, rtol=0)


def test_bfloat16_is_near_float32(pictures: Path, tmp_path: Path) -> None:
    exact = build(tiny_options(tmp_path, pictures, "GDM"))
    rounded = build(tiny_options(tmp_path, pictures, "GDM", {"precision": "bf16-mixed"}))
    expected, values = _values(exact), _values(rounded)
    for name, value in values.items():
        assert value == pytest.approx(expected[name], rel=0.05 if "loss" in name else 0.3), name
    assert values != expected
    assert all(p.dtype == torch.float32 for p in rounded.modules["generator"].parameters())
