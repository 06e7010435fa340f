"""A network's objective: the weighted sum of the terms that belong to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mvmsr.losses.term import Term


class Tensors(Protocol):
    """What terms take their arguments from: a mapping, or a view of a step."""

    def __getitem__(self, name: str, /) -> Tensor: ...


@dataclass(frozen=True)
class WeightedTerm:
    """One term of one network's objective.

    Args:
        name: the options key without `_opt`.
        weight: its factor.
        function: computes the unweighted scalar from the tensors named in `inputs`.
        inputs: names of the step's tensors.
    """

    name: str
    weight: float
    function: Callable[..., Tensor]
    inputs: tuple[str, ...]

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
            objectives.setdefault(network, []).append(WeightedTerm(name, term.weight_for(network), function, inputs))
    return objectives


def evaluate_terms(terms: list[WeightedTerm], view: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and each unweighted value (detached), for one view of a step."""
    total: Tensor | None = None
    values: dict[str, Tensor] = {}
    for term in terms:
        value = term.function(*(view[name] for name in term.inputs))
        values[term.name] = value.detach()
        weighted = value * term.weight
        total = weighted if total is None else total + weighted
    if total is None:
        raise ValueError("an objective without terms has no value")
    return total, values
