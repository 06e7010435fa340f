"""An experiment's complete state, out to a checkpoint and back."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from mvmsr.counting import counted
from mvmsr.engine.build import Experiment
from mvmsr.engine.checkpoint import CheckpointError
from mvmsr.engine.logs import RunningMeans
from mvmsr.engine.misfit import misfit
from mvmsr.engine.networks import NETWORKS
from mvmsr.engine.run import Detour
from mvmsr.engine.seeds import mixed_seed
from mvmsr.engine.sharded_state import share_of_network, share_of_optimizer, whole_state

log = logging.getLogger(__name__)


def collect_state(
    experiment: Experiment, means: RunningMeans, best: dict[str, Any], detour: Detour, data: dict[str, Any]
) -> dict[str, Any]:
    """Everything that the rest of the run depends on; the same on all processes of the run, which all call this.

    A sharded generator is whole in the first process's state alone.

    The order of samples, the learning rates and the triplets' permutations are functions of seed and iteration, so
    the iteration stands for them.
    """
    rng, *rng_of_others = experiment.processes.collect(_random_state(experiment))
    networks = {name: module.state_dict() for name, module in experiment.modules.items()}
    ema = experiment.ema.state_dict() if experiment.ema is not None else None
    optimizers = {name: player.optimizer.state_dict() for name, player in experiment.players.items()}
    if experiment.sharding is not None:
        networks, ema, optimizers = whole_state([networks, ema, optimizers], experiment.sharding.processes)
    return {
        "iteration": experiment.iteration,
        "seed": experiment.options.manual_seed,
        "archs": _archs(experiment),
        "networks": networks,
        "ema": ema,
        "optimizers": optimizers,
        "optimizer_types": _optimizer_types(experiment),
        "scaler": experiment.fabric.strategy.precision.state_dict(),
        "rng": rng,
        "rng_of_others": rng_of_others,
        "batch_size": experiment.batch_size,
        "accumulate": experiment.options.train.accumulate,
        "means": means.state_dict(),
        "best": best,
        "detour": asdict(detour),
        "data": data,
    }


def restore_state(experiment: Experiment, means: RunningMeans, state: dict[str, Any]) -> dict[str, Any]:
    """Put a checkpoint's state into a freshly built experiment; returns the best scores so far.

    Raises:
        CheckpointError: the checkpoint belongs to other networks than the options describe, or its steps have
            another number of pictures, all processes together, so that its position in the data means nothing here.
    """
    if missing := sorted({"archs", "networks", "optimizers", "rng", "means", "best"} - set(state)):
        raise CheckpointError(
            f"the checkpoint lacks {', '.join(missing)}: another kind of training wrote it, or a version of mvmsr that "
            "this one cannot continue; use that version, or start another run from its weights "
            "(path.pretrain_network_g)"
        )
    _require_step_size(experiment, state.get("batch_size"), state.get("accumulate"))
    theirs, ours = state["archs"], _archs(experiment)
    if theirs != ours:
        raise CheckpointError(
            f"the checkpoint holds {theirs}, but the options describe {ours}; "
            "use the run's own options, or another name"
        )
    try:
        for name in experiment.modules:
            _restore_network(experiment, name, state)
        if experiment.ema is not None:
            # Averaging that was switched on just now begins at the network itself.
            average = state["ema"] or state["networks"]["generator"]
            if experiment.sharding is not None:
                average = share_of_network(average, experiment.ema)
            experiment.ema.load_state_dict(average)
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint does not fit the options' networks: {error}") from error
    experiment.fabric.strategy.precision.load_state_dict(state["scaler"])
    experiment.iteration = state["iteration"]
    _restore_random_state(experiment, [state["rng"], *state.get("rng_of_others", [])])
    means.load_state_dict(state["means"], experiment.device)
    return state["best"]


def take_up(
    experiment: Experiment, means: RunningMeans, path: Path, state: dict[str, Any]
) -> tuple[dict[str, Any], Detour]:
    """As `restore_state`, of the checkpoint at `path`, which errors name; returns its best scores and its detour."""
    try:
        best = restore_state(experiment, means, state)
    except CheckpointError as error:
        raise CheckpointError(f"{error}. (The checkpoint is {path}.)") from error
    return best, _detour_of(state, experiment)


def _restore_network(experiment: Experiment, name: str, state: dict[str, Any]) -> None:
    """Put a network's weights and its optimizer's moments back."""
    module, optimizer = experiment.modules[name], experiment.players[name].optimizer
    weights, moments = state["networks"][name], state["optimizers"][name]
    if experiment.sharding is not None and name == "generator":
        weights, moments = share_of_network(weights, module), share_of_optimizer(moments, optimizer)
    if difference := misfit(weights, module):
        raise CheckpointError(
            f"the checkpoint's {name} does not fit the options' {_archs(experiment)[name]}: {difference}; use the "
            "run's own options (its options.yml), or another name"
        )
    module.load_state_dict(weights)
    was = state.get("optimizer_types", {}).get(name)
    load_optimizer(optimizer, moments, _optimizer_types(experiment)[name], was)


def _random_state(experiment: Experiment) -> dict[str, Any]:
    on_gpu = experiment.device.type == "cuda"
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(experiment.device) if on_gpu else None,
    }


def _restore_random_state(experiment: Experiment, states: list[dict[str, Any]]) -> None:
    rank = experiment.processes.rank
    if rank >= len(states):  # there were fewer processes then
        torch.manual_seed(mixed_seed(experiment.options.manual_seed, rank, experiment.iteration))
        return
    torch.set_rng_state(states[rank]["cpu"])
    if states[rank]["cuda"] is not None and experiment.device.type == "cuda":
        torch.cuda.set_rng_state(states[rank]["cuda"], experiment.device)


def _detour_of(state: dict[str, Any], experiment: Experiment) -> Detour:
    """That of a checkpoint, in batches of the experiment's size."""
    detour = Detour(**state.get("detour", {}))
    pictures = detour.batches * (state.get("batch_size") or experiment.batch_size)
    return Detour(detour.rollbacks, -(-pictures // experiment.batch_size))


def load_optimizer(optimizer: Optimizer, state: dict[str, Any], kind: str, was: str | None) -> None:
    """Take up a checkpoint's moments and learning rate; other settings (betas, ...) are those of the options.

    Args:
        kind, was: type of the optimizer, and of that in the checkpoint where it is known; under another type the
            moments begin anew.
    """
    if was is not None and was != kind:
        log.warning("The optimizer was %s and is %s: its moments start from zero", was, kind)
        return
    pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
    groups = [{**ours, **{key: theirs[key] for key in ("params", "lr")}} for theirs, ours in pairs]
    optimizer.load_state_dict({**state, "param_groups": groups})


def _require_step_size(experiment: Experiment, batch_size: int | None, accumulate: int | None) -> None:
    size, parts = experiment.processes.size, experiment.options.train.accumulate
    if batch_size is None:  # older checkpoints do not say
        return
    theirs, ours = batch_size * (accumulate or parts), experiment.batch_size * parts
    if theirs == ours:
        return
    if theirs % (size * parts) == 0:
        remedy = f"continue with --set datasets.train.batch_size_per_gpu={theirs // size // parts}"
    else:
        remedy = f"continue with a number of processes, and of parts (train.accumulate), that divides {theirs}"
    made_of = f"{parts} parts of " if parts > 1 else ""
    raise CheckpointError(
        f"the run has steps of {counted(theirs, 'image')}, but {made_of}{ours // size // parts} on each of {size} "
        f"process{'es' if size > 1 else ''} make {ours}; {remedy}, or start another run from its weights "
        "(path.pretrain_network_g)"
    )


def _archs(experiment: Experiment) -> dict[str, str]:
    modules = experiment.modules
    return {name: getattr(experiment.options, key).type for key, name in NETWORKS.items() if name in modules}


def _optimizer_types(experiment: Experiment) -> dict[str, str]:
    train, players = experiment.options.train, experiment.players
    return {name: getattr(train, f"optim_{key[-1]}").type for key, name in NETWORKS.items() if name in players}
