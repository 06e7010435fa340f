"""Mixed precisions train like float32, within their rounding; float16's scaled gradients are unscaled before use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from tiny_runs import random_images, tiny_options

from mvmsr.engine import build as build_module
from mvmsr.engine.build import Experiment, build
from mvmsr.engine.iteration import run_iteration


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch, pictures: Path, tmp_path: Path) -> Any:
    """A function that builds an experiment in 16-mixed, which options refuse and Fabric replaces on a CPU."""

    def make(scale: float, changes: dict[str, Any]) -> Experiment:
        monkeypatch.setattr(build_module, "pick_precision", lambda *_: "16-mixed")
        with pytest.warns(UserWarning, match="fp16 is not supported on CPU"):
            experiment = build(tiny_options(tmp_path, pictures, "GDM", changes))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        experiment.fabric.strategy.precision = MixedPrecision("16-mixed", "cpu", scaler)
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


def test_bfloat16_is_near_float32(pictures: Path, tmp_path: Path) -> None:
    exact = build(tiny_options(tmp_path, pictures, "GDM"))
    rounded = build(tiny_options(tmp_path, pictures, "GDM", {"precision": "bf16-mixed"}))
    expected, values = _values(exact), _values(rounded)
    for name, value in values.items():
        assert value == pytest.approx(expected[name], rel=0.05 if "loss" in name else 0.3), name
    assert values != expected
    assert all(p.dtype == torch.float32 for p in rounded.modules["generator"].parameters())
