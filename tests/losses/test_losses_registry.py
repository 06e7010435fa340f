"""Every registered loss keeps the bargain that the trainer relies on."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re

import pytest
import torch
from torch import Tensor, nn

from mvmsr.losses.choices import from_preset, one_of
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES

MODULES = ["choices", "pixel", "geometry", "manifold", "triplet", "adversarial", "perceptual", "naturalness"]
STEP_NAMES = set(re.findall(r"`(\w+)`", inspect.getdoc(Term).split("offers")[1].split("Args:")[0]))
LEARNT_FROM = {
    "generator": {"sr", "sr_embeddings", "sr_logits"},
    "discriminator": {"sr_logits", "gt_logits"},
    "metric_net": {"sr_embeddings", "gt_embeddings"},
}


class Doubling(nn.Module):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"conv": 2 * image}


class SquaredError(nn.Module):
    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        return (sr - gt).square().mean((1, 2, 3))


JUDGED = {"PerceptualLoss", "NaturalnessLoss", "QualityLoss"}


def build(name: str) -> Term:
    required = {
        "PerceptualLoss": {"extractor": Doubling(), "layer_weights": {"conv": 1.0}},
        "NaturalnessLoss": {"extractor": nn.Sequential(nn.Flatten(2), nn.AvgPool1d(8)), "nmd_path": "nmd.safetensors"},
        "QualityLoss": {"extractor": SquaredError(), "metric": "made"},
    }
    return LOSSES.get(name)(**required.get(name, {}))


def step() -> dict[str, Tensor]:
    """Everything that a training step offers, differentiable where it can be."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).requires_grad_()

    return {
        "lq": random(4, 3, 2, 2),
        "sr": random(4, 3, 8, 8),
        "gt": random(4, 3, 8, 8),
        "sr_embeddings": random(4, 5),
        "gt_embeddings": random(4, 5),
        "sr_logits": random(4, 1),
        "gt_logits": random(4, 1),
        "positive_index": torch.tensor([1, 2, 3, 0]),
        "negative_index": torch.tensor([2, 0, 3, 1]),
    }


SIDES = [(name, objective) for name in LOSSES.names() for objective in build(name).objectives()]


def test_the_step_offers_what_the_docstring_says() -> None:
    assert set(step()) == STEP_NAMES


@pytest.mark.parametrize("name", LOSSES.names())
def test_constructor(name: str) -> None:
    cls = LOSSES.get(name)
    assert issubclass(cls, Term)
    parameters = inspect.signature(cls).parameters.values()
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    documented = inspect.getdoc(cls)
    assert all(p.name in documented for p in parameters)
    assert build(name).objective in LEARNT_FROM
    assert set(inspect.signature(build(name).forward).parameters) <= STEP_NAMES


@pytest.mark.parametrize(("name", "objective"), SIDES)
def test_each_side_is_a_scalar_with_gradient(name: str, objective: str) -> None:
    term = build(name)
    side = term.objectives()[objective]
    wanted = set(inspect.signature(side).parameters)
    assert wanted <= STEP_NAMES
    offered = step()
    value = side(**{key: offered[key] for key in wanted})
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    learnt = wanted & LEARNT_FROM[objective]
    assert learnt
    for key in learnt:
        assert torch.isfinite(offered[key].grad).all(), key
        assert (offered[key].grad != 0).any(), key
    assert term.weight_for(objective) == 1.0


@pytest.mark.parametrize("name", sorted(set(LOSSES.names()) - JUDGED - {"GANLoss"}))
def test_the_weight_is_not_in_the_value(name: str) -> None:
    plain, heavy = LOSSES.get(name)(), LOSSES.get(name)(loss_weight=5.0)
    wanted = inspect.signature(plain.forward).parameters
    offered = {key: value for key, value in step().items() if key in wanted}
    assert plain(**offered) == heavy(**offered)
    assert heavy.weight_for(heavy.objective) == 5.0


@pytest.mark.parametrize("name", LOSSES.names())
def test_terms_have_no_parameters_to_train(name: str) -> None:
    assert not [p for p in build(name).parameters() if p.requires_grad]


def test_who_needs_pairs() -> None:
    needy = {name for name in LOSSES.names() if LOSSES.get(name).needs_pairs}
    assert {"L1Loss", "MSELoss", "CharbonnierLoss", "PairLoss", "PerceptualLoss"} <= needy
    assert not needy & {"ManifoldMatchingLoss", "DirectedTripletLoss", "GANLoss"}


def test_a_term_refuses_an_objective_that_is_not_its_own() -> None:
    with pytest.raises(
        ValueError, match="L1Loss has no part in the objective 'metric_net'; expected one of: generator"
    ):
        build("L1Loss").weight_for("metric_net")


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"mvmsr.losses.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("value", ["both", None, 3, ["mean"]])
def test_one_of_refuses(value: object) -> None:
    with pytest.raises(ValueError, match=r"reduction: expected one of mean, sum; got "):
        one_of("reduction", value, ("mean", "sum"))


def test_preset_or_explicit_or_default() -> None:
    presets = {"a": {"x": "1", "y": "2"}}
    defaults = {"x": "8", "y": "9"}
    assert from_preset("a", presets, {"x": None, "y": "2"}, defaults) == {"x": "1", "y": "2"}
    assert from_preset(None, presets, {"x": None, "y": "2"}, defaults) == {"x": "8", "y": "2"}
    with pytest.raises(ValueError, match="preset 'a' means y = '2', but y = '9' was given"):
        from_preset("a", presets, {"x": None, "y": "9"}, defaults)
