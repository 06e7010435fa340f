"""How the time of a training step grows with batch, patch, width, data set and processes, and what a schedule costs.

    python benchmarks/scaling.py [--rounds 5] [--json FILE] [--plot FILE]

Steps of L1 + MvM (SRResNet of four blocks, the usual metric network, float32) on random pictures, on one core. Times
are processor seconds (`time.process_time`), which other programs on the machine disturb less than the clock's; the
settings take turns in every round, and the least of all rounds counts.

The model of the cost of a step is

    seconds = a + b * multiply-adds + c * values

where multiply-adds are those of three passes of the generator (forward, and backward for pictures and weights) and of
nine of the metric network (three in the generator's step, six in its own), and values are what the layers put out in
forward passes: large and narrow layers wait for memory, not for arithmetic. The three numbers are not negative, are
fitted to relative errors on two thirds of the settings, and are judged on the others.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import numpy as np
import torch
from figures import write_figures
from scipy.optimize import nnls
from torch import nn

from mvmsr.archs.flops import multiply_adds
from mvmsr.config import TrainOptions, load
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source
from mvmsr.data import PairedImageDataset, TrainBatches, write_rgb
from mvmsr.data.batches import Batch
from mvmsr.engine.build import build
from mvmsr.engine.iteration import run_iteration, to_device
from mvmsr.engine.networks import NETWORKS, network_args
from mvmsr.registry import ARCHS

SCALE = 4
GENERATOR_PASSES, METRIC_PASSES, DISCRIMINATOR_PASSES = 3, 9, 9
USUAL = {"batch": 4, "patch": 12, "width": 32}
SWEEPS: dict[str, list[int]] = {
    "batch": [2, 3, 4, 6, 8, 12],
    "patch": [8, 12, 16, 20, 24, 28],
    "width": [8, 16, 24, 32, 48, 64],
}
PICTURES = [8, 32, 128, 512]
PROCESSES = [1, 2, 4]
GLOBAL_BATCH = 8
H100_PEAK = 989e12  # NVIDIA's data sheet: dense bfloat16 operations a second of an H100 SXM


@dataclass(frozen=True)
class Setting:
    """One size of step."""

    batch: int
    patch: int
    width: int


def settings() -> list[Setting]:
    """All sizes that are measured: each factor by itself, and some together."""
    alone = [Setting(**{**USUAL, factor: value}) for factor, values in SWEEPS.items() for value in values]
    together = [Setting(2, 24, 16), Setting(6, 8, 48), Setting(2, 20, 48), Setting(8, 12, 24), Setting(6, 20, 16)]
    return list(dict.fromkeys([*alone, *together]))


def step_options(setting: Setting) -> TrainOptions:
    """A run whose step has that size."""
    values = {
        "name": "scaling",
        "device": "cpu",
        "precision": "32",
        "compile": False,
        "channels_last": False,
        "datasets": {
            "train": {"dataroot_gt": "made", "gt_size": setting.patch * SCALE, "batch_size_per_gpu": setting.batch}
        },
        "network_g": {"type": "SRResNet", "num_feat": setting.width, "num_block": 4, "bn": False},
        "network_m": {"type": "MetricNet"},
        "train": {
            "total_iter": 1000,
            "pixel_opt": {"type": "L1Loss"},
            "pair_opt": {"type": "PairLoss", "loss_weight": 1e-3},
            "manifold_opt": {"type": "ManifoldMatchingLoss", "loss_weight": 1e-3},
            "triplet_opt": {"type": "DirectedTripletLoss"},
        },
    }
    return validate(values, Source("scaling"))


def step(setting: Setting) -> Callable[[], None]:
    """A function that makes one iteration on random pictures."""
    experiment = build(step_options(setting))
    generator = torch.Generator().manual_seed(0)
    side = setting.patch
    lq = torch.randint(0, 256, (setting.batch, 3, side, side), dtype=torch.uint8, generator=generator)
    gt = torch.randint(0, 256, (setting.batch, 3, side * SCALE, side * SCALE), dtype=torch.uint8, generator=generator)
    batch = Batch(lq, gt, ["random"] * setting.batch, 0)

    def iterate() -> None:
        run_iteration(experiment, [to_device(batch, experiment.device, experiment.channels_last)])

    return iterate


def work(options: TrainOptions, batch: int, patch: int) -> tuple[float, float]:
    """Multiply-adds and values of one step."""
    passes = {"network_g": GENERATOR_PASSES, "network_m": METRIC_PASSES, "network_d": DISCRIMINATOR_PASSES}
    forwards = {"network_g": 1, "network_m": 4, "network_d": 4}
    products = values = 0.0
    for key in NETWORKS:
        spec = getattr(options, key)
        if spec is None:
            continue
        network = ARCHS.get(spec.type)(**network_args(options, key))
        side = patch if key == "network_g" else patch * options.scale
        products += passes[key] * multiply_adds(network, side, side)
        values += forwards[key] * values_put_out(network, side)
    return products * batch, values * batch


def values_put_out(module: nn.Module, side: int) -> int:
    """How many numbers the layers of a network put out for one picture."""
    total = 0

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel()

    network = module.to("meta").eval()
    handles = [layer.register_forward_hook(count) for layer in network.modules() if not list(layer.children())]
    with torch.no_grad():
        network(torch.empty(1, 3, side, side, device="meta"))
    for handle in handles:
        handle.remove()
    return total


def interleaved(contenders: dict[Any, Callable[[], Any]], rounds: int, least_seconds: float = 0.1) -> dict[Any, float]:
    """The least processor seconds of one call of each, over rounds in which all of them take turns."""
    repeats = {}
    for key, run in contenders.items():
        run()
        start = time.process_time()
        run()
        repeats[key] = max(1, round(least_seconds / max(time.process_time() - start, 1e-4)))
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for key, run in contenders.items():
            start = time.process_time()
            for _ in range(repeats[key]):
                run()
            best[key] = min(best[key], (time.process_time() - start) / repeats[key])
    return best


def fit(products: np.ndarray, values: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """a, b and c, none negative, by least squares of relative errors."""
    columns = np.stack([np.ones_like(products), products, values], axis=1)
    scale = columns.max(axis=0)
    result, _ = nnls(columns / scale / seconds[:, None], np.ones_like(seconds))
    return result / scale


def predicted(model: np.ndarray, products: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Seconds by the model."""
    return model[0] + model[1] * products + model[2] * values


def measure_steps(rounds: int) -> dict[str, Any]:
    """Times of all settings, the model, and its errors on those that it was not fitted to."""
    all_settings = settings()
    seconds = interleaved({s: step(s) for s in all_settings}, rounds)
    print(f"measured {len(all_settings)} settings", flush=True)
    amounts = np.array([work(step_options(s), s.batch, s.patch) for s in all_settings])
    times = np.array([seconds[s] for s in all_settings])
    order = np.argsort(amounts[:, 0])
    held_out = np.zeros(len(order), bool)
    held_out[order[1::3]] = True  # every third by size, the smallest and largest not among them
    held_out[order[[0, -1]]] = False
    model = fit(amounts[~held_out, 0], amounts[~held_out, 1], times[~held_out])
    guesses = predicted(model, amounts[:, 0], amounts[:, 1])
    errors = guesses / times - 1
    return {
        "model": {"a_seconds": model[0], "b_seconds_per_multiply_add": model[1], "c_seconds_per_value": model[2]},
        "largest_error_held_out": float(abs(errors[held_out]).max()),
        "median_error_held_out": float(np.median(abs(errors[held_out]))),
        "largest_error_fitted": float(abs(errors[~held_out]).max()),
        "points": [
            {
                **vars(s),
                "multiply_adds": float(amounts[k, 0]),
                "values": float(amounts[k, 1]),
                "seconds": round(float(times[k]), 5),
                "predicted": round(float(guesses[k]), 5),
                "held_out": bool(held_out[k]),
            }
            for k, s in enumerate(all_settings)
        ],
    }


def measure_data(rounds: int, scratch: Path) -> list[dict[str, Any]]:
    """Milliseconds for a batch of 16 crops, by the number of pictures in the set."""
    rng = np.random.default_rng(0)
    readers: dict[Any, Callable[[], Any]] = {}
    for count in PICTURES:
        for number in range(count):
            write_rgb(scratch / str(count) / f"{number}.bmp", rng.integers(0, 256, (128, 128, 3), dtype=np.uint8))
        dataset = PairedImageDataset(str(scratch / str(count)), gt_size=64, cache_dir=scratch / "cache")
        batches, numbers = TrainBatches(dataset, 16, seed=0), iter(range(10**9))
        readers[count] = lambda batches=batches, numbers=numbers: batches.batch(next(numbers))
    best = interleaved(readers, rounds)
    return [{"pictures": count, "milliseconds": round(1000 * best[count], 3)} for count in PICTURES]


def measure_processes(rounds: int) -> list[dict[str, Any]]:
    """Processor seconds of each process, for a step of the same batch, by the number of processes."""
    found = []
    for size in PROCESSES:
        with tempfile.TemporaryDirectory() as scratch:
            context = torch.multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["mvmsr.engine.loop"])
            result = str(Path(scratch) / "seconds")
            port = 29400 + os.getpid() % 1000 + size
            workers = [context.Process(target=_work, args=(r, size, port, rounds, result)) for r in range(size)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            each = [float(Path(f"{result}{rank}").read_text()) for rank in range(size)]
        found.append({"processes": size, "seconds": round(statistics.mean(each), 5)})
    return found


def _work(rank: int, size: int, port: int, rounds: int, result: str) -> None:
    if size > 1:
        described = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        os.environ |= {name: str(value) for name, value in described.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "scaling"}
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    iterate = step(Setting(GLOBAL_BATCH // size, USUAL["patch"], USUAL["width"]))
    for _ in range(3):
        iterate()
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(5):
            iterate()
        best = min(best, (time.process_time() - start) / 5)
    Path(f"{result}{rank}").write_text(str(best))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def schedule_costs(folder: Path, cpu_seconds_per_multiply_add: float) -> list[dict[str, Any]]:
    """What the schedules of options files cost, on paper."""
    rows = []
    for path in sorted(folder.glob("table3_*.yml")):
        options = load(path)
        train = options.datasets.train
        patch = int(train.args["gt_size"]) // options.scale
        products, _ = work(options, train.batch_size_per_gpu, patch)
        total = products * options.train.total_iter
        rows.append(
            {
                "options": path.name,
                "tera_multiply_adds_a_step": round(products / 1e12, 3),
                "exa_operations": round(2 * total / 1e18, 1),
                "h100_hours_at_a_tenth_of_its_peak": round(2 * total / (0.1 * H100_PEAK) / 3600, 2),
                "h100_hours_at_three_tenths": round(2 * total / (0.3 * H100_PEAK) / 3600, 2),
                "cpu_days_at_the_measured_rate": round(total * cpu_seconds_per_multiply_add / 86400, 1),
            }
        )
    return rows


def plot(document: dict[str, Any], path: Path) -> None:
    """One panel for each factor, one of predictions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    points = document["steps"]["points"]
    labels = {"batch": "images in a batch", "patch": "side of the low-quality patch", "width": "features (width)"}
    for ax, (factor, label) in zip(axes.flat, labels.items(), strict=False):
        others = {name: value for name, value in USUAL.items() if name != factor}
        chosen = sorted(
            (p for p in points if all(p[name] == value for name, value in others.items())), key=lambda p: p[factor]
        )
        for held_out, marker, name in ((False, "o", "fitted"), (True, "s", "held out")):
            part = [p for p in chosen if p["held_out"] is held_out]
            ax.plot([p[factor] for p in part], [p["seconds"] for p in part], marker, label=f"measured, {name}")
        ax.plot([p[factor] for p in chosen], [p["predicted"] for p in chosen], "-", color="gray", label="model")
        ax.set(xlabel=label, ylabel="processor seconds a step", xlim=(0, None), ylim=(0, None))
        ax.legend(frameon=False)
    ax = axes.flat[3]
    ax.plot([r["pictures"] for r in document["data"]], [r["milliseconds"] for r in document["data"]], "o-")
    ax.set(xlabel="images in the training set", ylabel="milliseconds for 16 crops", xscale="log", ylim=(0, None))
    ax = axes.flat[4]
    sizes = [r["processes"] for r in document["processes"]]
    ax.plot(sizes, [r["seconds"] for r in document["processes"]], "o", label="measured")
    ax.plot(sizes, [document["processes"][0]["seconds"] / n for n in sizes], "-", color="gray", label="1 / processes")
    ax.set(xlabel=f"processes that share a batch of {GLOBAL_BATCH}", ylabel="processor seconds of each", ylim=(0, None))
    ax.set_xticks(sizes)
    ax.legend(frameon=False)
    ax = axes.flat[5]
    for held_out, marker, name in ((False, "o", "fitted"), (True, "s", "held out")):
        part = [p for p in points if p["held_out"] is held_out]
        ax.loglog([p["seconds"] for p in part], [p["predicted"] for p in part], marker, label=name)
    ends = np.array([min(p["seconds"] for p in points), max(p["seconds"] for p in points)])
    ax.loglog(ends, ends, "-", color="gray")
    ax.fill_between(ends, 0.85 * ends, 1.15 * ends, color="gray", alpha=0.2, label="15 %")
    ax.set(xlabel="measured seconds", ylabel="predicted seconds")
    ax.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measure, fit, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--schedules", type=Path, default=Path("options/reproduce"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--from-json", type=Path, help="plot and print these figures instead of measuring")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if arguments.from_json:
        document = json.loads(arguments.from_json.read_text())
    else:
        schedule_costs(arguments.schedules, 0.0)  # what cannot be counted is said before anything is measured
        steps = measure_steps(arguments.rounds)
        with tempfile.TemporaryDirectory() as scratch:
            data = measure_data(arguments.rounds, Path(scratch))
        document = {
            "rounds": arguments.rounds,
            "steps": steps,
            "data": data,
            "processes": measure_processes(arguments.rounds),
            "schedules": schedule_costs(arguments.schedules, steps["model"]["b_seconds_per_multiply_add"]),
        }
        if arguments.json:
            write_figures(arguments.json, document)
    steps = document["steps"]
    print("model:", {name: f"{value:.3g}" for name, value in steps["model"].items()})
    print(f"largest error on held-out settings {100 * steps['largest_error_held_out']:.1f} %")
    for key in ("data", "processes", "schedules"):
        for row in document[key]:
            print(key, row)
    if arguments.plot:
        plot(document, arguments.plot)


if __name__ == "__main__":
    main()
