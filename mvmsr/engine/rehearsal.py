"""Every network and loss once, on made-up pictures, before anything is decoded or written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mvmsr.archs.padded import size_multiple
from mvmsr.config import OptionsError, TrainOptions
from mvmsr.engine.build import Experiment
from mvmsr.engine.networks import NETWORKS
from mvmsr.engine.objective import evaluate_terms
from mvmsr.engine.step import Images, Networks, Step
from mvmsr.inference.failures import why


class SetupError(ValueError):
    """A run that cannot begin; nothing has been written. The message says what does not fit."""


def rehearse(experiment: Experiment) -> None:
    """Evaluate every objective on two random pictures of the training size (one, if the batch is one).

    Finds what no look at the options finds: a metric network that is deeper than the patches are large, a
    discriminator for another size, a batch too small for a loss. The networks' buffers are put back afterwards.

    Raises:
        OptionsError: naming the network or the term that failed.
    """
    options = experiment.options
    spec = options.datasets.train
    size, count = spec.gt_size, min(spec.batch_size_per_gpu, 2)
    if size < options.scale or size % options.scale:
        return  # the data set says so, in better words
    side = size // options.scale
    images = Images(
        torch.rand(count, 3, side, side, device=experiment.device),
        torch.rand(count, 3, size, size, device=experiment.device),
        ("random",) * count,
    )
    watched = {
        name: _Watched(options, key, experiment.modules[name], size)
        for key, name in NETWORKS.items()
        if name in experiment.modules
    }
    processes = experiment.processes
    step = Step(Networks(**watched), images, (0, 0, 0), shared=False, processes=processes)
    with torch.no_grad(), _put_back(experiment.modules.values()):
        for name, player in experiment.players.items():
            view = step.generator_view() if name == "generator" else step.critic_view()
            for term in player.terms:
                with _term_named(options, f"{term.name}_opt", name, count * processes.size):
                    evaluate_terms([term], view, processes.size)


@contextmanager
def _term_named(options: TrainOptions, key: str, network: str, count: int) -> Iterator[None]:
    """A term's failure on a batch of `count` pictures becomes an error of the options at its key."""
    try:
        yield
    except OptionsError:
        raise
    except Exception as error:  # losses and networks of others may raise anything
        if count == 1 and _needs_two(error):
            raise _too_few(options, f"train.{key}", error) from error
        size = options.datasets.train.gt_size
        message = f"the objective of the {network} fails on patches of {size} pixels: {why(error)}"
        raise options.error(("train", key), message) from error


@contextmanager
def _put_back(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Buffers (running statistics) and the random state are afterwards what they were."""
    buffers = [(b, b.clone()) for module in modules for b in module.buffers()]
    random_state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(random_state)
        for buffer, before in buffers:
            buffer.copy_(before)


class _Watched(nn.Module):
    """A network whose failures become errors of the options at its key."""

    def __init__(self, options: TrainOptions, key: str, network: nn.Module, size: int) -> None:
        super().__init__()
        self._options, self._key, self._size = options, key, size
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        options, key = self._options, self._key
        kind = getattr(options, key).type
        try:
            result = self.network(pictures)
        except Exception as error:  # networks of others may raise anything
            if len(pictures) == 1 and _needs_two(error):
                raise _too_few(options, key, error) from error
            remedy = _remedy(self.network, key, why(error), options.scale)
            message = f"{kind} fails on patches of {self._size} pixels: {why(error)}{remedy}"
            raise options.error((key,), message) from error
        expected = (len(pictures), 3, self._size, self._size)
        if key == "network_g" and tuple(result.shape) != expected:
            given = f"{kind} makes {tuple(result.shape)} of {tuple(pictures.shape)}, expected {expected}"
            raise options.error((key,), f"{given}: an RGB image, larger by scale: {options.scale}")
        return result


def _needs_two(error: Exception) -> bool:
    """Whether it is the refusal of a lone picture: of our losses, or of PyTorch's batch normalisation."""
    return any(said in str(error) for said in ("batch of at least 2", "more than 1 value per channel"))


def _too_few(options: TrainOptions, key: str, error: Exception) -> OptionsError:
    keys = ("datasets", "train", "batch_size_per_gpu")
    return options.error(keys, f"1 image is too few for {key}; set it to 2 or more ({why(error)})")


def _remedy(network: nn.Module, key: str, reason: str, scale: int) -> str:
    """What to change in the options, where that is known."""
    multiple, needed = size_multiple(network), getattr(network, "input_size", None)
    if key == "network_g" and multiple > 1:
        return f". Set datasets.train.gt_size to a multiple of {multiple * scale}"
    if "channels" in reason:
        return ". Training is for RGB images: build the network for 3 channels (num_in_ch, num_out_ch)"
    if isinstance(needed, int):
        return f". Set datasets.train.gt_size to {needed}, the network's input_size"
    return ""
