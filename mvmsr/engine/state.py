"""An experiment's complete state, out to a checkpoint and back."""

from __future__ import annotations

from typing import Any

import torch

from mvmsr.engine.build import Experiment
from mvmsr.engine.checkpoint import CheckpointError
from mvmsr.engine.logs import RunningMeans


def collect_state(experiment: Experiment, means: RunningMeans, best: dict[str, Any]) -> dict[str, Any]:
    """Everything that the rest of the run depends on.

    The order of samples, the learning rates and the triplets' permutations are functions of seed and iteration, so
    the iteration stands for them.
    """
    return {
        "iteration": experiment.iteration,
        "seed": experiment.options.manual_seed,
        "archs": _archs(experiment),
        "networks": {name: module.state_dict() for name, module in experiment.modules.items()},
        "ema": experiment.ema.state_dict() if experiment.ema is not None else None,
        "optimizers": {name: player.optimizer.state_dict() for name, player in experiment.players.items()},
        "scaler": experiment.fabric.strategy.precision.state_dict(),
        "rng": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(experiment.device) if experiment.device.type == "cuda" else None,
        },
        "means": means.state_dict(),
        "best": best,
    }


def restore_state(experiment: Experiment, means: RunningMeans, state: dict[str, Any]) -> dict[str, Any]:
    """Put a checkpoint's state into a freshly built experiment; returns the best scores so far.

    Raises:
        CheckpointError: the checkpoint belongs to other networks than the options describe.
    """
    theirs, ours = state["archs"], _archs(experiment)
    if theirs != ours:
        raise CheckpointError(
            f"the checkpoint holds {theirs}, but the options describe {ours}; "
            "use the run's own options, or another name"
        )
    try:
        for name, module in experiment.modules.items():
            module.load_state_dict(state["networks"][name])
            experiment.players[name].optimizer.load_state_dict(state["optimizers"][name])
        if experiment.ema is not None:
            # Averaging that was switched on just now begins at the network itself.
            experiment.ema.load_state_dict(state["ema"] or state["networks"]["generator"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint does not fit the options' networks: {error}") from error
    experiment.fabric.strategy.precision.load_state_dict(state["scaler"])
    experiment.iteration = state["iteration"]
    torch.set_rng_state(state["rng"]["cpu"])
    if state["rng"]["cuda"] is not None and experiment.device.type == "cuda":
        torch.cuda.set_rng_state(state["rng"]["cuda"], experiment.device)
    means.load_state_dict(state["means"], experiment.device)
    return state["best"]


def _archs(experiment: Experiment) -> dict[str, str]:
    specs = {"generator": "network_g", "discriminator": "network_d", "metric_net": "network_m"}
    return {name: getattr(experiment.options, specs[name]).type for name in experiment.modules}
