"""Options become objects: here, in `networks` and in `optimizers` alone names turn into what they name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from mvmsr.config import Component, TrainOptions
from mvmsr.data.batches import TrainBatches
from mvmsr.engine.apart import compiled_apart
from mvmsr.engine.compiling import WORTH_COMPILING, compiles, compiles_metric_net
from mvmsr.engine.distributed import ALONE, Processes
from mvmsr.engine.distributed_batch_norm import synchronise_batch_norm
from mvmsr.engine.distributed_group import SeveralProcesses
from mvmsr.engine.distributed_setup import connect
from mvmsr.engine.ema import make_ema
from mvmsr.engine.guard import FiniteGuard
from mvmsr.engine.networks import NETWORKS, build_network, load_pretrained
from mvmsr.engine.objective import WeightedTerm, terms_by_network
from mvmsr.engine.optimizers import build_optimizer, build_schedule, clip_gradients
from mvmsr.engine.seeds import mixed_seed
from mvmsr.engine.sharding import ShardedGenerator, obstacle
from mvmsr.engine.step import Networks
from mvmsr.engine.train_set import data_errors_named
from mvmsr.engine.updates import Player
from mvmsr.hardware import autocast, pick_channels_last, pick_device, pick_precision, usable_processors
from mvmsr.losses.term import Term
from mvmsr.registry import ARCHS, DATASETS, LOSSES

log = logging.getLogger(__name__)

Placement = tuple[torch.device, str, bool]
"""What `auto` came to: device, precision, and whether pictures are channels_last."""


@dataclass
class Experiment:
    """Everything that a run needs, built.

    Attributes:
        modules: the networks themselves by name (for states and weights).
        networks: the same networks as Fabric runs them (precision, compilation).
        players: each trained network with its optimizer and objective.
        ema: the averaged generator, or None.
        processes: those that share the run.
        sharding: how the generator and its average are split over the processes; None where each holds all of them.
        whole: while inside `whole_generator`, the sharded generator that is validated, put together.
    """

    options: TrainOptions
    fabric: Fabric
    device: torch.device
    precision: str
    channels_last: bool
    modules: dict[str, nn.Module]
    networks: Networks
    players: dict[str, Player]
    guard: FiniteGuard
    ema: nn.Module | None
    iteration: int = 0
    processes: Processes = ALONE
    sharding: ShardedGenerator | None = None
    whole: nn.Module | None = None

    @property
    def batch_size(self) -> int:
        """Pictures in a batch, over all processes."""
        return self.options.datasets.train.batch_size_per_gpu * self.processes.size

    @property
    def runs_as(self) -> str:
        """What `auto` came to: device, precision, layout and processes, in words."""
        layout = "channels_last" if self.channels_last else "contiguous"
        return (
            f"on {self.device} in {self.precision}, {layout}, torch {torch.__version__}, {self.processes.size} process"
            + ("es" if self.processes.size > 1 else "")
        )

    @property
    def eval_generator(self) -> nn.Module:
        """The generator that is validated and handed out: the averaged one where there is one.

        A sharded one is there inside of `whole_generator` only.
        """
        if self.sharding is not None:
            assert self.whole is not None, "a sharded generator has to be put together first"
            return self.whole
        return self.ema if self.ema is not None else self.modules["generator"]

    @contextmanager
    def whole_generator(self) -> Iterator[None]:
        """While inside, every process has all of `eval_generator`; collective where it is sharded."""
        if self.sharding is not None:
            self.whole = self.sharding.whole(self.ema if self.ema is not None else self.modules["generator"])
        try:
            yield
        finally:
            self.whole = None


def build(options: TrainOptions, continued: Path | None = None) -> Experiment:
    """Build everything but the data, from options that `check` has passed.

    Args:
        continued: the folder of a run whose checkpoint will replace all weights; the files that the networks started
            from are not needed then.

    Raises:
        OptionsError: an argument that a constructor refuses, or weights that do not fit.
        ValueError: the device or precision is not available on this machine.
    """
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    channels_last = _channels_last(options, device, precision)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    fabric, processes = connect(device, precision)
    if processes.size > 1:
        device = fabric.device

    torch.manual_seed(options.manual_seed)
    used = {key: name for key, name in NETWORKS.items() if getattr(options, key) is not None}
    modules = {name: build_network(options, key, continued) for key, name in used.items()}
    if continued is None:
        load_pretrained(options, modules)
    placement = (device, precision, channels_last)
    terms = {name: _term(options, name, spec, placement) for name, spec in options.train.terms.items()}

    split_over = _split_over(options, processes, precision)
    for name, module in modules.items():
        is_split = split_over is not None and name == "generator"
        # Pieces are contiguous; a split generator's pictures alone are in NHWC.
        modules[name] = _placed(module, device, channels_last and not is_split, processes)
    sharding = ShardedGenerator(modules["generator"], split_over) if split_over else None

    objectives = terms_by_network(terms)
    players = {
        name: _player(options, key, fabric, modules[name], placement, objectives[name], sharding)
        for key, name in used.items()
    }
    if processes.rank > 0:
        # What a network draws in training (dropout) should differ between the parts of a batch.
        torch.manual_seed(mixed_seed(options.manual_seed, processes.rank, 0))
    embed_apart = None
    if compiles_metric_net(options, device, processes):
        embed_apart = compiled_apart(modules["metric_net"], autocast(device, precision))

    ema = None
    if options.train.ema_decay > 0:
        ema = sharding.average() if sharding is not None else make_ema(modules["generator"])
    return Experiment(
        options=options,
        fabric=fabric,
        device=device,
        precision=precision,
        channels_last=channels_last,
        modules=modules,
        networks=Networks(**{name: player.network for name, player in players.items()}, embed_apart=embed_apart),
        players=players,
        guard=FiniteGuard(device, scaled=precision == "16-mixed", processes=processes),
        ema=ema,
        processes=processes,
        sharding=sharding,
    )


def _split_over(options: TrainOptions, processes: Processes, precision: str) -> SeveralProcesses | None:
    """The processes that the generator is split over; None where each holds all of it."""
    if not options.train.shard_generator or not isinstance(processes, SeveralProcesses):
        return None
    if found := obstacle(options.compile is True, precision, options.train.optim_g.type):
        raise options.error(*found)
    return processes


def _placed(module: nn.Module, device: torch.device, channels_last: bool, processes: Processes) -> nn.Module:
    """The network on the device in its layout, with the first process's values and statistics of the whole batch."""
    module = module.to(device)
    if processes.size > 1:
        module = synchronise_batch_norm(module, processes)
        processes.copy_from_first([*module.parameters(), *module.buffers()])
    return module.to(memory_format=torch.channels_last) if channels_last else module


def _player(
    options: TrainOptions,
    key: str,
    fabric: Fabric,
    module: nn.Module,
    placement: Placement,
    terms: list[WeightedTerm],
    sharding: ShardedGenerator | None,
) -> Player:
    """The network of an options key, as it runs, with its optimizer and objective."""
    name, (device, precision, _) = NETWORKS[key], placement
    optimizer = build_optimizer(options, f"optim_{key[-1]}", module, device, precision)
    is_generator = name == "generator"
    is_compiled = is_generator and sharding is None and compiles(options, device, WORTH_COMPILING)
    runs: Any = torch.compile(module) if is_compiled else module
    network, wrapped = fabric.setup(runs, optimizer, move_to_device=False)
    clip = sharding.clip if is_generator and sharding is not None else partial(clip_gradients, fabric)
    base_lrs = [group["lr"] for group in wrapped.param_groups]
    schedule = build_schedule(options, base_lrs[0])
    return Player(name, network, wrapped, terms, partial(clip, options.train.grad_clip), schedule, base_lrs)


def _channels_last(options: TrainOptions, device: torch.device, precision: str) -> bool:
    """As `pick_channels_last`; `auto` leaves it where a network is BasicSR's, since many of those call `view`."""
    specs = [spec for key in NETWORKS if (spec := getattr(options, key)) is not None]
    if options.channels_last == "auto" and any(ARCHS.get(s.type).__module__.startswith("basicsr.") for s in specs):
        return False
    return pick_channels_last(options.channels_last, device, precision)


def build_batches(options: TrainOptions, processes: Processes = ALONE) -> TrainBatches:
    """The stream of training batches, or of this process's parts of them.

    Decodes and packs the pictures when that has not been done before.

    Raises:
        OptionsError: folders that are missing or do not pair up, pictures that cannot be used.
    """
    spec = options.datasets.train
    with data_errors_named(options):
        dataset = DATASETS.get(spec.type)(**{"scale": options.scale, **spec.args})
    batch_size = spec.batch_size_per_gpu * processes.size
    ratio, rank = spec.dataset_enlarge_ratio, processes.rank
    threads = max(1, min(getattr(dataset, "crop_threads", 1), usable_processors() // processes.size))
    return TrainBatches(dataset, batch_size, options.manual_seed, ratio, rank, processes.size, threads)


def _term(options: TrainOptions, name: str, spec: Component, placement: Placement) -> Term:
    """The loss term of `train.NAME_opt`, on the device."""
    constructor: Any = LOSSES.get(spec.type)
    try:
        if constructor.extractor_spec is not None:
            from mvmsr.engine.extractor import build_extractor

            constructor = partial(constructor, build_extractor(constructor, spec.args, *placement))
        return constructor(**spec.args).to(placement[0])
    except ValueError as error:
        raise options.error(("train", f"{name}_opt"), str(error)) from error
