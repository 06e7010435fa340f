"""One training iteration: the batch to the device, the updates in their order, the averages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mvmsr.config.schema import Train
from mvmsr.data.batches import Batch
from mvmsr.engine.build import Experiment
from mvmsr.engine.ema import ema_decay_at, update_ema
from mvmsr.engine.logs import RunningMeans
from mvmsr.engine.objective import WeightedTerm
from mvmsr.engine.step import Images, Step
from mvmsr.engine.updates import Backward, Check, Player, Values, update_all, update_critic, update_generator
from mvmsr.losses.geometry import health


def to_device(batch: Batch, device: torch.device, channels_last: bool) -> Images:
    """The batch as float32 in [0, 1] on the device; bytes travel, the device converts."""
    lq, gt = (as_floats(image, device, channels_last) for image in (batch.lq, batch.gt))
    return Images(lq, gt, tuple(batch.names))


def as_floats(images: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """(N, C, H, W) uint8 on the CPU -> float32 in [0, 1] on the device."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.to(device, non_blocking=True).to(torch.float32, memory_format=layout).mul_(1 / 255)


def run_iteration(experiment: Experiment, parts: Sequence[Images]) -> tuple[Values, Step]:
    """Update every network once.

    Args:
        experiment: its `iteration` counts the finished ones and is raised by one.
        parts: the batch, in one piece or, with gradient accumulation, in several.

    Returns:
        the unweighted loss terms and gradient norms (scalars on the device), and the last part's step.

    Raises:
        NonFiniteLossError: before the network concerned is changed.
    """
    options = experiment.options.train
    iteration = experiment.iteration + 1
    shared = options.update == "simultaneous"
    seed = experiment.options.manual_seed
    steps = [
        Step(experiment.networks, images, (seed, iteration, k), shared, experiment.processes)
        for k, images in enumerate(parts)
    ]

    players = experiment.players
    for player in players.values():
        player.set_learning_rates(experiment.iteration)
    generator = players["generator"]
    critics = [player for player in players.values() if player is not generator]
    terms = generator_terms(experiment, iteration)
    backward, check = experiment.fabric.backward, partial(experiment.guard.check, iteration)

    if shared:
        values = update_all(generator if terms else None, critics, steps, terms, backward, check)
    else:
        values = _alternate(generator, critics, steps, terms, options, backward, check)
    if experiment.ema is not None and terms:
        before = generator_updates(experiment, iteration - 1)
        update_ema(experiment.ema, experiment.modules["generator"], ema_decay_at(options.ema_decay, before))
    experiment.iteration = iteration
    return values, steps[-1]


def _alternate(
    generator: Player,
    critics: Sequence[Player],
    steps: Sequence[Step],
    terms: list[WeightedTerm],
    options: Train,
    backward: Backward,
    check: Check,
) -> Values:
    """The generator's update, where it has terms, then each critic's.

    The released code of the MvM paper lets the metric network's step follow the generator's matching terms as well, as
    it clears the gradients but once (`metric_grad_leak`), and makes the generated images anew in between
    (`recompute_fake`). In the paper's Algorithm 1 the metric network is fixed while the generator learns.
    """
    values: Values = {}
    leaking = [p for p in critics if options.metric_grad_leak and p.name == "metric_net"]
    for critic in leaking:
        critic.optimizer.zero_grad(set_to_none=True)
    if terms:
        frozen = [p for p in critics if p not in leaking]
        values |= update_generator(generator, frozen, steps, terms, backward, check)
        if options.recompute_fake:
            for step in steps:
                step.recompute_sr()
    for critic in critics:
        others = [p for p in critics if p is not critic]
        values |= update_critic(critic, others, steps, backward, check, add_gradients=critic in leaking)
    return values


def generator_terms(experiment: Experiment, iteration: int) -> list[WeightedTerm]:
    """The terms that the generator is trained on in this iteration; none where it has to wait for its critics.

    `net_d_iters` and `net_d_init_iters` mean what they mean in BasicSR.
    """
    options = experiment.options.train
    terms = experiment.players["generator"].terms
    if "discriminator" in experiment.players and (
        iteration % options.net_d_iters or iteration <= options.net_d_init_iters
    ):
        return []
    if iteration <= options.match_after_iter:
        return [term for term in terms if not term.uses_embeddings]
    return terms


def generator_updates(experiment: Experiment, iterations: int) -> int:
    """In how many of the first `iterations` the generator was updated, that is, `generator_terms` had any for it."""
    options, every, after = experiment.options.train, 1, 0
    if "discriminator" in experiment.players:
        every, after = options.net_d_iters, options.net_d_init_iters
    if all(term.uses_embeddings for term in experiment.players["generator"].terms):
        after = max(after, options.match_after_iter)
    return iterations // every - min(iterations, after) // every


def training_record(experiment: Experiment, step: Step, means: RunningMeans) -> dict[str, float]:
    """What is logged of the iterations since the last report; `means` begin anew."""
    record = {name: float(value) for name, value in embedding_health(experiment, step).items()}
    record |= means.take()
    return record | {f"lr/{n}": p.optimizer.param_groups[0]["lr"] for n, p in experiment.players.items()}


def embedding_health(experiment: Experiment, step: Step) -> Values:
    """Distances between the sets of embeddings of the step's batch, where there is a metric network."""
    if not step.observed:
        return {}
    gt, sr = step.observed["gt_embeddings"], step.observed["sr_embeddings"]
    values, view = health(gt, sr), step.critic_view()
    for term in experiment.players["metric_net"].terms:
        values |= term.term.health(gt, sr, view.positive_index, view.negative_index)
    return values
