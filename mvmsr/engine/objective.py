"""A network's objective: the weighted sum of the terms that belong to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from mvmsr.losses.term import Term

_PICTURES = {"lq", "sr", "gt"}
"""What lies on this process for its part of the batch; everything else that a step offers is that of the whole."""


class Tensors(Protocol):
    """What terms take their arguments from: a mapping, or a view of a step."""

    def __getitem__(self, name: str, /) -> Tensor: ...


class SharedTensors(Tensors, Protocol):
    """The same where the batch lies on several processes."""

    def of_all(self, name: str) -> Tensor:
        """The tensor for the whole batch."""
        ...


@dataclass(frozen=True)
class WeightedTerm:
    """One term of one network's objective.

    Attributes:
        name: the options key without `_opt`.
        weight: its factor.
        function: computes the unweighted scalar from the tensors named in `inputs`.
        inputs: names of the step's tensors.
        term: what the function belongs to.
        components: where the function is a weighted sum itself, what computes its parts from the same tensors, and
            their weights; the parts are what is logged.
    """

    name: str
    weight: float
    function: Callable[..., Tensor]
    inputs: tuple[str, ...]
    term: Term = field(default_factory=Term)
    components: tuple[Callable[..., dict[str, Tensor]], dict[str, float]] | None = None

    @property
    def splits(self) -> bool:
        """Whether a batch's value is the mean of the values of its equal parts."""
        return self.term.is_mean_over_pictures and _PICTURES.issuperset(self.inputs)

    @property
    def uses_embeddings(self) -> bool:
        """Whether it depends on the metric network."""
        return any(name.endswith("_embeddings") for name in self.inputs)


def terms_by_network(terms: Mapping[str, Term]) -> dict[str, list[WeightedTerm]]:
    """The terms of each network's objective, in the order of the options."""
    objectives: dict[str, list[WeightedTerm]] = {}
    for name, term in terms.items():
        for network, function in term.objectives().items():
            inputs = tuple(inspect.signature(function).parameters)
            components = term.weighted_components() if network == term.objective else None
            weighted = WeightedTerm(name, term.weight_for(network), function, inputs, term, components)
            objectives.setdefault(network, []).append(weighted)
    return objectives


def weaker_in_parts(terms: Iterable[WeightedTerm], parts: int) -> str | None:
    """A warning where gradient accumulation makes terms smaller than they are of a whole batch; else None."""
    names = sorted({term.name for term in terms if term.term.grows_with_batch})
    if parts == 1 or not names:
        return None
    return (
        f"train.accumulate is {parts}, and what grows with the batch is the mean of {parts} smaller values: "
        f"{', '.join(names)}. A sum, or official's frobenius_sq, comes to a {parts}th of one batch's, a norm to about "
        f"1/sqrt({parts}); raise its loss_weight, or take a reduction that does not depend on the batch."
    )


def evaluate_terms(
    terms: list[WeightedTerm], view: Tensors | SharedTensors, processes: int = 1
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and each unweighted value (detached), for one view of a step.

    Args:
        processes: how many share the batch. The gradients of the sum, added up over them, are then those of the
            objective (see `mvmsr.engine.distributed`), and the means of the values over them are its terms.
    """
    total: Tensor | None = None
    values: dict[str, Tensor] = {}
    for term in terms:
        if processes == 1 or term.splits:
            value, parts = _evaluate(term, [view[name] for name in term.inputs])
            weighted = value * (term.weight / processes)
        else:
            value, parts = _evaluate(term, [view.of_all(name) for name in term.inputs])  # type: ignore[union-attr]
            weighted = value * term.weight
        values |= {name: part.detach() for name, part in parts.items()}
        total = weighted if total is None else total + weighted
    if total is None:
        raise ValueError("an objective without terms has no value")
    return total, values


def _evaluate(term: WeightedTerm, tensors: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The term before its `weight`, and its parts before theirs.

    Parts are named TERM_PART; one that is alone, or named as the term, is simply TERM.
    """
    if term.components is None:
        value = term.function(*tensors)
        return value, {term.name: value}
    function, weights = term.components
    parts = function(*tensors)
    value = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    short = len(parts) == 1
    return value, {term.name if short or name == term.name else f"{term.name}_{name}": p for name, p in parts.items()}
