"""An objective's sum and what is logged of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mvmsr.engine.objective import WeightedTerm, evaluate_terms, terms_by_network, weaker_in_parts
from mvmsr.losses import DirectedTripletLoss, L1Loss, ManifoldMatchingLoss, PairLoss, PerceptualLoss
from mvmsr.losses.term import Term


class Layers(nn.Module):
    """The picture, and its square."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"plain": image, "squared": image.square()}


def _pictures() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(2, 3, 5, 6, generator=generator) for name in ("sr", "gt")}


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ({"perceptual_weight": 0.01, "style_weight": 50.0}, {"perceptual": "perceptual", "perceptual_style": "style"}),
        ({"perceptual_weight": 0.01}, {"perceptual": "perceptual"}),
        ({"perceptual_weight": 0.0, "style_weight": 50.0}, {"perceptual": "style"}),
    ],
)
def test_a_term_with_weights_of_its_own_is_logged_before_them(weights: dict[str, float], names: dict[str, str]) -> None:
    term = PerceptualLoss(Layers(), {"plain": 1.0, "squared": 0.5}, **weights)
    objective = terms_by_network({"pixel": L1Loss(2.0), "perceptual": term})["generator"]
    tensors = _pictures()
    tensors["sr"].requires_grad_()
    total, values = evaluate_terms(objective, tensors)
    expected = 2 * (tensors["sr"] - tensors["gt"]).abs().mean() + term(**tensors)
    assert torch.equal(total, expected)
    assert torch.equal(*(torch.autograd.grad(value, tensors["sr"])[0] for value in (total, expected)))
    components = term.components(**tensors)
    assert list(values) == ["pixel", *names]
    assert not any(value.requires_grad for value in values.values())
    for logged, name in names.items():
        assert values[logged].item() == components[name].item()


def test_parts_carry_their_terms_name() -> None:
    term = PerceptualLoss(Layers(), {"plain": 1.0}, style_weight=3.0)
    _, values = evaluate_terms(terms_by_network({"vgg": term})["generator"], _pictures())
    assert list(values) == ["vgg_perceptual", "vgg_style"]


def test_one_embedding_among_other_inputs_makes_a_term_wait_for_the_metric_network() -> None:
    for inputs, waits in ((("sr", "gt_embeddings"), True), (("sr_embeddings", "gt"), True), (("sr", "gt"), False)):
        assert WeightedTerm("mine", 1.0, torch.dist, inputs).uses_embeddings == waits


def test_health_is_that_of_the_term_and_nothing_where_it_has_none() -> None:
    triplet, pair = DirectedTripletLoss(), PairLoss()
    objectives = terms_by_network({"triplet": triplet, "pair": pair})
    points, index = torch.eye(3), torch.tensor([1, 2, 0])
    found = objectives["metric_net"][0].term.health(points, 2 * points, index, index)
    assert found == triplet.health(points, 2 * points, index, index) != {}
    assert objectives["generator"][0].term.health(points, 2 * points, index, index) == {}


@pytest.mark.parametrize(
    ("term", "grows"),
    [
        (L1Loss(), False),
        (L1Loss(reduction="sum"), True),
        (PairLoss(), False),
        (PairLoss(reduction="frobenius"), True),
        (ManifoldMatchingLoss(preset="paper"), False),
        (ManifoldMatchingLoss(preset="official"), True),
        (PerceptualLoss(Layers(), {"plain": 1.0}), False),
        (PerceptualLoss(Layers(), {"plain": 1.0}, criterion="fro"), True),
    ],
)
def test_what_grows_with_the_batch_is_named_under_accumulation(term: Term, grows: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 2, 2) if term.compares_pixels or isinstance(term, PerceptualLoss) else (3,)
    one, other = (torch.rand(4, *shape, generator=generator) for _ in range(2))
    of_whole = term(torch.cat([one, one]), torch.cat([other, other]))
    assert (of_whole.item() > 1.3 * term(one, other).item()) == grows
    terms = terms_by_network({"mine": term})["generator"]
    assert weaker_in_parts(terms, 1) is None
    text = weaker_in_parts(terms, 4)
    assert ("mine" in text if text else False) == grows
