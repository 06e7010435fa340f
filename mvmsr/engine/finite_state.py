"""Networks, averages and optimizers hold finite numbers, or are not saved."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mvmsr.engine.build import Experiment
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.sharding import local


def require_finite_state(experiment: Experiment) -> None:
    """A checkpoint with a NaN in it would make every later one worthless, and replace good ones.

    Raises:
        NonFiniteLossError: naming the network and the first tensor concerned.
    """
    if where := non_finite_state(experiment):
        network, name = where
        raise NonFiniteLossError(
            f"after iteration {experiment.iteration} {name} of the {network} holds values that are not finite, though "
            "every loss and gradient was, so no checkpoint of it is written. Lower the learning rate, or use "
            "precision 32.",
            iteration=experiment.iteration,
            network=network,
        )


def non_finite_state(experiment: Experiment) -> tuple[str, str] | None:
    """Network and name of the first tensor that is not finite; one wait for the device where all are.

    Collective where the generator is sharded, and each process looks at its pieces.
    """
    found = _non_finite_here(experiment)
    if experiment.sharding is None:
        return found
    return next((where for where in experiment.processes.collect(found) if where), None)


def _non_finite_here(experiment: Experiment) -> tuple[str, str] | None:
    named = [(where, local(t)) for where, t in _tensors(experiment) if t.is_floating_point()]
    named = [(where, t) for where, t in named if t.numel()]
    if not named:
        return None
    # The largest magnitude is finite where all values are; NaN and infinity both spread to it.
    largest = torch._foreach_norm([t.detach() for _, t in named], float("inf"))
    fine = torch.isfinite(torch.stack([value.float().to(named[0][1].device) for value in largest])).tolist()
    return next((where for (where, _), ok in zip(named, fine, strict=True) if not ok), None)


def _tensors(experiment: Experiment) -> Iterator[tuple[tuple[str, str], Tensor]]:
    for network, module in experiment.modules.items():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            yield (network, name), tensor
    if experiment.ema is not None:
        for name, tensor in [*experiment.ema.named_parameters(), *experiment.ema.named_buffers()]:
            yield ("averaged generator", name), tensor
    for network, player in experiment.players.items():
        named = experiment.modules[network].named_parameters()
        names: dict[Tensor, str] = {parameter: name for name, parameter in named}
        for parameter, state in player.optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.numel():
                    yield (network, f"the optimizer's {key} of {names.get(parameter, 'a parameter')}"), value
