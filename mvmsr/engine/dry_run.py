"""What a run would cost, found out without starting it."""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.table import Table

from mvmsr.archs.flops import multiply_adds
from mvmsr.archs.param_count import count_parameters
from mvmsr.config import OptionsError, TrainOptions
from mvmsr.counting import counted
from mvmsr.data.batches import Batch
from mvmsr.data.layouts import MissingDataError
from mvmsr.durations import duration
from mvmsr.engine.build import Experiment, build
from mvmsr.engine.check import check
from mvmsr.engine.distributed_setup import is_first, speak_for_all
from mvmsr.engine.iteration import run_iteration, to_device
from mvmsr.engine.memory import peak_memory_mib
from mvmsr.engine.networks import NETWORKS
from mvmsr.engine.optimizers import schedule_misfits
from mvmsr.engine.plain_errors import plain_errors_typed
from mvmsr.engine.rehearsal import rehearse
from mvmsr.engine.run_dir import require_free_run_dir
from mvmsr.engine.sharding import local
from mvmsr.engine.step import Images
from mvmsr.engine.train_set import missing_pictures
from mvmsr.engine.validate import build_validation

_ENOUGH_SECONDS = 2.0


def dry_run(options: TrainOptions, console: Console) -> None:
    """Validate, build, print parameters, memory and cost per iteration.

    One iteration of a small part of the batch (random pictures) is carried out and scaled up, so that this takes
    seconds even for a schedule of days. Data that is missing is said, and is no error: the run may be planned for
    another machine.

    Raises:
        OptionsError, SetupError: as training would, but for data that is missing.
    """
    if not is_first():
        console = Console(quiet=True)
    speak_for_all()
    with plain_errors_typed():
        check(options)
        require_free_run_dir(options, resume=True)
        missing = _data_notes(options)
        # Compilation would take longer than everything else here.
        experiment = build(options.model_copy(update={"compile": False}))
    with experiment.processes.running():
        _show(experiment, missing, console)


def _show(experiment: Experiment, missing: list[str], console: Console) -> None:
    options = experiment.options
    rehearse(experiment)
    batch = options.datasets.train.batch_size_per_gpu
    gt_size = options.datasets.train.gt_size

    table = Table("network", "type", "parameters", f"multiply-adds at {gt_size} px", title=f"{options.name} (dry run)")
    keys = {name: key for key, name in NETWORKS.items()}
    for name, module in experiment.modules.items():
        side = gt_size // options.scale if name == "generator" else gt_size
        spec = getattr(options, keys[name])
        sharding = experiment.sharding if name == "generator" else None
        whole = module if sharding is None else sharding.plain
        table.add_row(name, spec.type, f"{count_parameters(whole):,}", _multiply_adds(whole, side))
    console.print(table)
    state = sum(local(p).numel() for m in experiment.modules.values() for p in m.parameters()) * 16 / 2**20
    console.print(
        f"device {experiment.device}, precision {experiment.precision}, channels_last {experiment.channels_last}; "
        f"weights, gradients and Adam's moments take {state:.0f} MiB{'' if experiment.sharding is None else ' here'}"
    )
    if experiment.processes.size > 1:
        console.print(
            f"{experiment.processes.size} processes of {counted(batch, 'image')}: batches of {experiment.batch_size}"
        )
    seconds, measured = _seconds_per_iteration(experiment, batch, gt_size)
    total = options.train.total_iter
    scaled = "" if measured == batch else f" (measured with {measured} of the batch's {batch} images)"
    console.print(
        f"{seconds * options.train.accumulate:.2f} s per iteration on this machine{scaled}; "
        f"{counted(total, 'iteration')} in about {duration(seconds * options.train.accumulate * total)}, "
        f"peak memory so far {peak_memory_mib():.0f} MiB"
    )
    for note in (*map(str, schedule_misfits(options)), *missing):
        console.print(note, style="yellow", soft_wrap=True, markup=False)
    console.print("Options are valid; the data named above is not here." if missing else "Options are valid.")


def _data_notes(options: TrainOptions) -> list[str]:
    """What of the data is not here; what is here, but cannot be used, is an error."""
    missing = missing_pictures(options)
    notes = [] if missing is None else [missing]
    try:
        build_validation(options)
    except OptionsError as error:
        if not isinstance(error.__cause__, MissingDataError):
            raise
        notes.append(str(error))
    return notes


def _multiply_adds(module: torch.nn.Module, side: int) -> str:
    try:
        return f"{multiply_adds(module, side, side) / 1e9:.3g} G"
    except (RuntimeError, ValueError, NotImplementedError):  # a network that cannot run without data
        return "unknown"


def _seconds_per_iteration(experiment: Experiment, batch: int, gt_size: int) -> tuple[float, int]:
    """Seconds for the whole batch, and the size that was measured: doubled as long as that takes little time."""
    size = min(2, batch)
    while True:
        seconds = min(_time_once(experiment, size, gt_size) for _ in range(2))
        seconds = max(experiment.processes.collect(seconds))  # all decide alike
        if size == batch or seconds * 4 > _ENOUGH_SECONDS:
            return seconds * batch / size, size
        size = min(size * 2, batch)


def _time_once(experiment: Experiment, size: int, gt_size: int) -> float:
    side = gt_size // experiment.options.scale
    lq = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8)
    gt = torch.randint(0, 256, (size, 3, gt_size, gt_size), dtype=torch.uint8)
    images = to_device(Batch(lq, gt, ["random"] * size, 0), experiment.device, experiment.channels_last)
    train = experiment.options.train
    # What the whole run is like: later than what the critics learn before the generator does.
    after = max(train.net_d_init_iters, train.match_after_iter)
    experiment.iteration = after // train.net_d_iters * train.net_d_iters + train.net_d_iters - 1
    whole = _timed(experiment, images)  # the generator's turn
    if train.net_d_iters == 1:
        return whole
    return (whole + (train.net_d_iters - 1) * _timed(experiment, images)) / train.net_d_iters


def _timed(experiment: Experiment, images: Images) -> float:
    start = time.perf_counter()
    run_iteration(experiment, [images])
    if experiment.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
