"""The tensors of one training step, each forward pass made when first asked for, and once.

A loss term names the tensors it wants; a `View` computes just those. In `alternating` training every network's update
has a view of its own, which runs the metric network and the discriminator again after the generator has moved. In
`simultaneous` training all updates share one view, so that one embedding pass serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from mvmsr.engine.apart import Embed
from mvmsr.engine.distributed import ALONE, Processes
from mvmsr.engine.seeds import mixed_seed


@dataclass
class Networks:
    """The networks in training; those that the options leave out are None.

    `embed_apart` is the metric network compiled for simultaneous updates, where it is.
    """

    generator: nn.Module
    discriminator: nn.Module | None = None
    metric_net: nn.Module | None = None
    embed_apart: Embed | None = None


@dataclass(frozen=True)
class Images:
    """A batch, or this process's part of one, on the device, with the pictures' names.

    lq (N, 3, h, w) and gt (N, 3, H, W) are float32 in [0, 1].
    """

    lq: Tensor
    gt: Tensor
    names: tuple[str, ...]


def _present(network: nn.Module | None) -> nn.Module:
    """`check` lets no term ask for a network that the options leave out."""
    assert network is not None
    return network


def _full(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


class View:
    """What one update sees of a step: quantities by name, computed when first asked for.

    Args:
        networks: the networks.
        images: the batch.
        sr: the generator's output, attached to its graph or not, as the update needs it.
        permutations: two of range(N), the same ones in every view and process.
        observed: where embeddings are left, detached, for statistics.
        processes: those that share the batch. Embeddings, logits and permutations are those of the whole batch, `lq`,
            `gt` and `sr` the pictures of this process.
    """

    def __init__(
        self,
        networks: Networks,
        images: Images,
        sr: Tensor,
        permutations: tuple[Tensor, Tensor],
        observed: dict[str, Tensor],
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self._gathered: dict[str, Tensor] = {}
        self.lq, self.gt, self.sr = images.lq, images.gt, sr
        self.positive_index, self.negative_index = permutations
        self._networks = networks
        self._observed = observed

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self, name)

    def of_all(self, name: str) -> Tensor:
        """The quantity for the whole batch, the pictures of other processes included."""
        if name not in ("lq", "sr", "gt"):
            return self[name]
        if name not in self._gathered:
            self._gathered[name] = self._processes.gather(self[name])
        return self._gathered[name]

    @cached_property
    def _embeddings(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By name, for the metric network's objective and for the generator's."""
        # One batch of both: with batch normalisation each half alone would be normalised by its own statistics,
        # and the metric network would learn to tell batches apart, not images.
        network = _present(self._networks.metric_net)
        if self._networks.embed_apart is not None:
            for_metric_net, for_generator = self._networks.embed_apart(self.gt, self.sr)
        else:
            for_metric_net = for_generator = network(torch.cat([self.gt, self.sr]))
        found = self._halves(for_metric_net)
        self._observed.update({name: half.detach() for name, half in found.items()})
        return found, found if for_generator is for_metric_net else self._halves(for_generator)

    def _halves(self, both: Tensor) -> dict[str, Tensor]:
        gt, sr = (self._processes.gather(half) for half in _full(both).chunk(2))
        return {"gt_embeddings": gt, "sr_embeddings": sr}

    @property
    def gt_embeddings(self) -> Tensor:
        """(N, D) of the metric network."""
        return self._embeddings[0]["gt_embeddings"]

    @property
    def sr_embeddings(self) -> Tensor:
        """(N, D) of the metric network."""
        return self._embeddings[0]["sr_embeddings"]

    @property
    def embeddings_for_generator(self) -> dict[str, Tensor]:
        """The same by name, with the gradient that the generator's objective wants."""
        return self._embeddings[1]

    @cached_property
    def gt_logits(self) -> Tensor:
        """The discriminator's judgement of `gt`."""
        return self._processes.gather(_full(_present(self._networks.discriminator)(self.gt)))

    @cached_property
    def sr_logits(self) -> Tensor:
        """The discriminator's judgement of `sr`; apart from `gt`, so that its batch norm sees one kind at a time."""
        return self._processes.gather(_full(_present(self._networks.discriminator)(self.sr)))


class GeneratorsView:
    """A shared view as the generator's objective sees it."""

    def __init__(self, view: View) -> None:
        self._view = view

    def __getitem__(self, name: str) -> Tensor:
        return self._view.embeddings_for_generator[name] if name.endswith("_embeddings") else self._view[name]

    def of_all(self, name: str) -> Tensor:
        """As `View.of_all`."""
        return self[name] if name.endswith("_embeddings") else self._view.of_all(name)


NEEDS_NETWORK = {
    "lq": None,
    "sr": None,
    "gt": None,
    "gt_embeddings": "network_m",
    "sr_embeddings": "network_m",
    "gt_logits": "network_d",
    "sr_logits": "network_d",
    "positive_index": None,
    "negative_index": None,
}
"""Every quantity that a term may name, and the options key of the network that it comes from."""


class Step:
    """One batch on its way through an iteration.

    Args:
        networks: the networks.
        images: the batch.
        seed: (run seed, iteration, part): fixes the step's permutations, whatever ran before.
        shared: whether all updates share one view (`simultaneous`).
        processes: those that share the batch, of which `images` is this one's part.
    """

    def __init__(
        self,
        networks: Networks,
        images: Images,
        seed: tuple[int, int, int],
        shared: bool,
        processes: Processes = ALONE,
    ) -> None:
        self.networks = networks
        self.images = images
        self.processes = processes
        self.observed: dict[str, Tensor] = {}
        """The latest embeddings, detached; empty as long as nobody asked for any."""
        self._seed = seed
        self._shared = shared

    @cached_property
    def sr(self) -> Tensor:
        """The generator's output (N, 3, H, W), float32, with its graph."""
        return _full(self.networks.generator(self.images.lq))

    @cached_property
    def sr_leaf(self) -> Tensor:
        """The same picture as a leaf: gradients stop and gather here before they go on into the generator."""
        return self.sr.detach().requires_grad_()

    @cached_property
    def _one_view(self) -> View:
        return self._view(self.sr_leaf)

    @torch.no_grad()
    def recompute_sr(self) -> None:
        """Make `sr` anew, without a graph, by what the generator has become."""
        self.__dict__["sr"] = _full(self.networks.generator(self.images.lq))

    def generator_view(self) -> View | GeneratorsView:
        """For the generator's update."""
        return GeneratorsView(self._one_view) if self._shared else self._view(self.sr)

    def critic_view(self) -> View:
        """For the update of a discriminator or metric network, which sees detached pictures."""
        if self._shared:
            return self._one_view
        return self._view(self.sr.detach())

    @cached_property
    def _permutations(self) -> tuple[Tensor, Tensor]:
        count = len(self.images.gt) * self.processes.size
        return two_permutations(self._seed, count, self.images.gt.device)

    def _view(self, sr: Tensor) -> View:
        # A view does not know its step: the two would hold each other, and their graphs stay in memory until Python's
        # collector of cycles comes by, which doubles what a run takes.
        return View(self.networks, self.images, sr, self._permutations, self.observed, self.processes)

    def release(self) -> None:
        """Let go of all graphs: the generator's update has used up its own, and with `simultaneous` all are done."""
        if "sr" in self.__dict__:
            self.__dict__["sr"] = self.sr.detach()
        for name in ("sr_leaf", "_one_view"):
            self.__dict__.pop(name, None)


def two_permutations(seed: tuple[int, int, int], count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two random permutations of range(count): the same for the same (run seed, iteration, part)."""
    generator = torch.Generator().manual_seed(mixed_seed(*seed))
    positive, negative = torch.randperm(count, generator=generator), torch.randperm(count, generator=generator)
    return positive.to(device, non_blocking=True), negative.to(device, non_blocking=True)
