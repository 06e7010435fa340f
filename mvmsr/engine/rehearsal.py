"""Every network and loss once, on made-up pictures, before anything is decoded or written."""

from __future__ import annotations

import torch

from mvmsr.engine.build import Experiment
from mvmsr.engine.objective import evaluate_terms
from mvmsr.engine.step import Images, Networks, Step


class SetupError(ValueError):
    """A run that cannot begin; nothing has been written. The message says what does not fit."""


def rehearse(experiment: Experiment) -> None:
    """Evaluate every objective on two random pictures of the training size (one, if the batch is one).

    Finds what no look at the options finds: a metric network that is deeper than the patches are large, a
    discriminator for another size, a batch too small for a loss. The networks' buffers are put back afterwards.

    Raises:
        SetupError: naming the objective that failed.
    """
    options = experiment.options
    spec = options.datasets.train
    size, count = int(spec.args.get("gt_size", 96)), min(spec.batch_size_per_gpu, 2)
    if size < options.scale or size % options.scale:
        return  # the data set says so, in better words
    side = size // options.scale
    images = Images(
        torch.rand(count, 3, side, side, device=experiment.device),
        torch.rand(count, 3, size, size, device=experiment.device),
        ("random",) * count,
    )
    buffers = [(b, b.clone()) for module in experiment.modules.values() for b in module.buffers()]
    random_state = torch.get_rng_state()
    processes = experiment.processes
    step = Step(Networks(**experiment.modules), images, (0, 0, 0), shared=False, processes=processes)
    try:
        for name, player in experiment.players.items():
            view = step.generator_view() if name == "generator" else step.critic_view()
            try:
                with torch.no_grad():
                    evaluate_terms(player.terms, view, processes.size)
            except (ValueError, RuntimeError) as error:
                raise SetupError(f"the objective of the {name} fails on patches of {size} pixels: {error}") from error
    finally:
        torch.set_rng_state(random_state)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
