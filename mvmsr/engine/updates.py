"""The updates that make one iteration: generator, then discriminator, then metric network.

`alternating` follows Algorithm 1 of the MvM paper: each network steps on what the others have just become.
`simultaneous` takes every gradient at the same point, from one forward pass of each network, and steps them together.
The gradients of the two agree as long as no network has stepped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mvmsr.engine.guard import GRADIENT_NORM
from mvmsr.engine.objective import WeightedTerm, evaluate_terms
from mvmsr.engine.schedule import Schedule
from mvmsr.engine.step import Step

Backward = Callable[..., None]
"""Fabric's `backward(tensor, ...)`, which scales the loss where the precision needs it."""

Values = dict[str, Tensor]

Check = Callable[[str, Values, Sequence[str], Optimizer], None]
"""`check(name, values, picture_names, optimizer)` refuses a player's non-finite values before its step."""


@dataclass
class Player:
    """A network with what it is trained on and by.

    Attributes:
        name: generator, discriminator or metric_net.
        clip: `clip(network, optimizer) -> gradient norm` after unscaling, clipped where the options ask for it.
        schedule: the learning rates' factor.
        base_lrs: the initial learning rates of the optimizer's parameter groups.
    """

    name: str
    network: nn.Module
    optimizer: Optimizer
    terms: list[WeightedTerm]
    clip: Callable[[nn.Module, Optimizer], Tensor]
    schedule: Schedule
    base_lrs: list[float]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that its optimizer steps."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def set_learning_rates(self, iteration: int) -> None:
        """Set the optimizer's rates for the iteration after `iteration` finished ones."""
        factor = self.schedule(iteration)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor


@contextmanager
def frozen(players: Sequence[Player]) -> Iterator[None]:
    """While inside, the players' parameters take no gradient."""
    parameters = [p for player in players for p in player.parameters]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def update_generator(
    generator: Player,
    others: Sequence[Player],
    steps: Sequence[Step],
    terms: list[WeightedTerm],
    backward: Backward,
    check: Check,
) -> Values:
    """One optimizer step of the generator on the mean of its objective over the parts of the batch."""
    generator.optimizer.zero_grad(set_to_none=True)
    parts = []
    with frozen(others):
        for step in steps:
            total, values = evaluate_terms(terms, step.generator_view(), step.processes.size)
            backward(total / len(steps))
            step.release()
            parts.append(values)
    return _finish(generator, parts, steps, check)


def update_critic(
    player: Player,
    others: Sequence[Player],
    steps: Sequence[Step],
    backward: Backward,
    check: Check,
    add_gradients: bool = False,
) -> Values:
    """One optimizer step of the discriminator or the metric network; the generator's pictures are detached.

    With `add_gradients` the objective's gradients are added to those that the parameters hold.
    """
    if not add_gradients:
        player.optimizer.zero_grad(set_to_none=True)
    parts = []
    with frozen(others):
        for step in steps:
            view = step.critic_view()
            step.release()  # a generator that waits for its critics has left the graph of its pictures
            total, values = evaluate_terms(player.terms, view, step.processes.size)
            backward(total / len(steps))
            parts.append(values)
    return _finish(player, parts, steps, check)


def update_all(
    generator: Player | None,
    critics: Sequence[Player],
    steps: Sequence[Step],
    generator_terms: list[WeightedTerm],
    backward: Backward,
    check: Check,
) -> Values:
    """One step of every network, with all gradients taken at the same point from one pass of each network.

    Each objective's gradient reaches only its own network: the generator's flows to the picture and from there into
    the generator, the critics' to their parameters.
    """
    players = [*critics, *([generator] if generator else [])]
    parts: dict[str, list[Values]] = {player.name: [] for player in players}
    for player in players:
        player.optimizer.zero_grad(set_to_none=True)
    for step in steps:
        passes: dict[str, tuple[Tensor, list[Tensor]]] = {}
        for player in players:
            terms = player.terms if player is not generator else generator_terms
            view = step.critic_view() if player is not generator else step.generator_view()
            total, values = evaluate_terms(terms, view, step.processes.size)
            parts[player.name].append(values)
            targets: list[Tensor] = [step.sr_leaf] if player is generator else [*player.parameters]
            passes[player.name] = total / len(steps), targets
        if step.networks.embed_apart is not None and generator:
            # Their gradients cannot reach each other's targets, and one pass computes both.
            (total, parameters), (generators, pictures) = passes.pop("metric_net"), passes.pop("generator")
            passes["both"] = total + generators, [*parameters, *pictures]
        for index, (total, targets) in enumerate(passes.values()):
            backward(total, inputs=targets, retain_graph=index < len(passes) - 1)
        if generator:
            backward(step.sr, gradient=step.sr_leaf.grad)
        step.release()
    logs: Values = {}
    for player in players:
        logs |= _checked(player, parts[player.name], steps, check)
    for player in players:
        player.optimizer.step()
    return logs


def _finish(player: Player, parts: list[Values], steps: Sequence[Step], check: Check) -> Values:
    logs = _checked(player, parts, steps, check)
    player.optimizer.step()
    return logs


def _checked(player: Player, parts: list[Values], steps: Sequence[Step], check: Check) -> Values:
    """Mean terms over the parts and the gradient norm, found finite; gradients are those of all processes from here."""
    means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
    means = steps[0].processes.exchange(player.parameters, means)
    norm = player.clip(player.network, player.optimizer)
    pictures = [name for step in steps for name in step.images.names]
    check(player.name, {**means, GRADIENT_NORM: norm}, pictures, player.optimizer)
    # A term of two objectives (a GAN's) is logged under both networks' names.
    prefix = {"generator": "g", "discriminator": "d", "metric_net": "m"}[player.name]
    return {**{f"loss_{prefix}/{name}": value for name, value in means.items()}, f"grad_norm/{player.name}": norm}
