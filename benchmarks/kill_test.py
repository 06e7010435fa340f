"""Kills training runs with SIGKILL and looks whether they end as if nothing had happened.

    python benchmarks/kill_test.py [--kills 100] [--json FILE]

Tiny runs of a generator, a discriminator and a metric network on made pictures, on the CPU. Every process is killed
after a random time or, as long as less than half of the kills have hit a save, a random time after one has begun:
something temporary appears among the checkpoints or weights. The next process continues the run by auto-resume. A run
is killed ten times, then left to its end. Then every value of its last checkpoint, its checkpoints' names, the tensors
of its weights files and the records of `stats.jsonl` (but for measured times and memory) must be those of a run that
nobody killed, bit for bit.

A kill counts as one inside a save where it left something half done: an unfinished checkpoint or weights file, or a
checkpoint half deleted. Processes are forked from this one, which has imported everything: POSIX only.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads do not survive a fork

import numpy as np
import torch
from figures import write_figures
from rich.console import Console
from safetensors.torch import load_file

from mvmsr.config import TrainOptions
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source
from mvmsr.data.image_io import write_rgb
from mvmsr.engine.checkpoint import list_checkpoints, load_checkpoint
from mvmsr.engine.compare_states import record_differences, state_differences
from mvmsr.engine.logs import read_stats
from mvmsr.engine.loop import train

ITERATIONS = 40
KILLS_OF_A_RUN = 10
PATIENCE_SECONDS = 300
POLL_SECONDS = 0.0002


@dataclass
class Outcome:
    """What became of the kills."""

    kills: int = 0
    inside: Counter[str] = field(default_factory=Counter)
    aimed: int = 0
    runs: int = 0
    equal: int = 0
    differences: list[str] = field(default_factory=list)


def options(folder: Path) -> TrainOptions:
    """A run of 40 iterations whose intervals of logging, validation and saving do not divide each other."""
    values: dict[str, Any] = {
        "name": "run",
        "scale": 4,
        "manual_seed": 0,
        "device": "cpu",
        "precision": "32",
        "compile": False,
        "channels_last": False,
        "datasets": {
            "train": {
                "dataroot_gt": str(folder.parent / "pictures"),
                "cache_dir": str(folder.parent / "cache"),
                "gt_size": 16,
                "batch_size_per_gpu": 4,
            },
            "val": {"name": "made", "dataroot_gt": str(folder.parent / "pictures")},
        },
        "network_g": {"type": "SRResNet", "num_feat": 8, "num_block": 1, "bn": True},
        "network_d": {"type": "SRGANDiscriminator", "num_feat": 2},
        "network_m": {"type": "MetricNet", "num_feat": 4, "num_layer": 3, "embedding_dim": 4},
        "path": {"experiments_root": str(folder)},
        "train": {
            "total_iter": ITERATIONS,
            "ema_decay": 0.9,
            "optim_g": {"type": "Adam", "lr": 1e-3},
            "optim_d": {"type": "Adam", "lr": 1e-3},
            "optim_m": {"type": "Adam", "lr": 1e-3},
            "scheduler": {"type": "CosineAnnealingLR"},
            "pixel_opt": {"type": "L1Loss"},
            "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
            "pair_opt": {"type": "PairLoss", "loss_weight": 0.01},
            "manifold_opt": {"type": "ManifoldMatchingLoss", "loss_weight": 0.01},
            "triplet_opt": {"type": "DirectedTripletLoss"},
        },
        "val": {"val_freq": 14, "metrics": ("psnr",), "samples": 1, "embedding_patches": 8},
        "logger": {"print_freq": 3, "save_checkpoint_freq": 4, "use_tb_logger": False, "keep_last": 2},
    }
    return validate(values, Source("kill_test"))


def made_pictures(folder: Path) -> None:
    """Six noisy ramps of 48 x 48 pixels."""
    for number in range(6):
        rng = np.random.default_rng(number)
        ramp = np.linspace(0, 160, 48)[:, None, None] * rng.random(3) + rng.integers(0, 96, (48, 48, 3))
        write_rgb(folder / f"p{number}.png", ramp.astype(np.uint8))


def start(folder: Path) -> int:
    """Fork a process that trains (or continues) the run in `folder`; returns its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        logging.disable(logging.WARNING)
        train(options(folder), auto_resume=True, console=Console(file=io.StringIO()))
        status = 0
    except BaseException:  # whatever it is, this copy of the parent must end here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def ended(child: int, wait: bool = False) -> int | None:
    """The exit status of a process (negative: the signal that ended it), or None while it runs.

    Raises:
        RuntimeError: it failed by itself.
    """
    pid, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    if pid == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the training process ended with status {code}; its message is above")
    return code


def wait_until(child: int, condition: Callable[[], bool]) -> int | None:
    """Poll until the condition holds (None) or the process has ended (its status)."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (code := ended(child)) is None and not condition():
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            raise RuntimeError("the training process makes no progress")
        time.sleep(POLL_SECONDS)
    return code


def kill_once(folder: Path, rng: random.Random, aim_at_save: bool, run_seconds: float, save_seconds: float) -> bool:
    """Start or continue the run and kill it; False where it came to its end first."""
    child = start(folder)
    checkpoints, weights = folder / "run" / "checkpoints", folder / "run" / "weights"
    if aim_at_save:
        saves_to_wait_for = rng.randint(1, 3)
        seen: set[str] = set()

        def saving() -> bool:
            seen.update(half_written(checkpoints), half_written(weights))
            return len(seen) >= saves_to_wait_for

        saving()  # what an earlier kill left does not count
        saves_to_wait_for += len(seen)
        code = wait_until(child, saving)
        delay = rng.uniform(0, save_seconds)
    else:
        code, delay = None, rng.uniform(0, run_seconds)
    if code is None:
        end = time.monotonic() + delay
        code = wait_until(child, lambda: time.monotonic() >= end)
    if code is None:
        os.kill(child, signal.SIGKILL)
        code = ended(child, wait=True)
    return code == -signal.SIGKILL


def half_written(folder: Path) -> list[str]:
    """Names of what is being written, or was when the process died."""
    try:
        return [entry.name for entry in os.scandir(folder) if entry.name.endswith((".tmp", ".old"))]
    except FileNotFoundError:
        return []


def half_done(run: Path) -> str | None:
    """What a kill interrupted, if it was a save."""
    if half_written(run / "checkpoints"):
        return "writing or deleting a checkpoint"
    if half_written(run / "weights"):
        return "writing weights"
    if half_written(run):
        return "writing another file"
    return None


def run_differences(whole: Path, killed: Path) -> list[str]:
    """What differs between two finished runs; nothing, if no kill was noticed."""
    found = []
    folders = [[p.name for p in list_checkpoints(run / "checkpoints")] for run in (whole, killed)]
    if folders[0] != folders[1]:
        found.append(f"checkpoints {folders[0]} and {folders[1]}")
    states = [load_checkpoint(list_checkpoints(run / "checkpoints")[-1]) for run in (whole, killed)]
    found += state_differences(*states)
    found += record_differences(*(read_stats(run / "stats.jsonl") for run in (whole, killed)))
    names = [sorted(p.name for p in (run / "weights").iterdir()) for run in (whole, killed)]
    if names[0] != names[1]:
        found.append(f"weights {names[0]} and {names[1]}")
    for name in names[0]:
        if name in names[1]:
            found += state_differences(*(load_file(run / "weights" / name) for run in (whole, killed)), name)
    found += [f"left behind: {path}" for pattern in ("*.tmp", "*.old") for path in sorted(killed.rglob(pattern))]
    return found


def measure(kills: int, seed: int, scratch: Path, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Kill runs until `kills` is reached; every run is finished and compared."""
    torch.set_num_threads(1)
    made_pictures(scratch / "pictures")
    ended(start(scratch / "packing"), wait=True)  # decodes and packs the pictures, warms the disk cache
    began = time.monotonic()
    ended(start(scratch / "whole"), wait=True)
    run_seconds = time.monotonic() - began
    save_seconds = _save_seconds(scratch / "timing")
    report(f"a run of {ITERATIONS} iterations takes {run_seconds:.2f} s, a save {1000 * save_seconds:.0f} ms")
    rng, outcome = random.Random(seed), Outcome()
    while outcome.kills < kills:
        outcome.runs += 1
        folder = scratch / f"killed{outcome.runs}"
        survived = True
        for _ in range(KILLS_OF_A_RUN):
            if outcome.kills == kills:
                break
            aim = 2 * sum(outcome.inside.values()) <= outcome.kills + 1  # half of all kills are to hit a save
            survived = kill_once(folder, rng, aim, run_seconds, save_seconds)
            if not survived:
                break
            outcome.kills += 1
            outcome.aimed += aim
            what = half_done(folder / "run")
            if what:
                outcome.inside[what] += 1
            if aim:  # disks are quick and slow by turns
                save_seconds *= 1.2 if what else 0.7
        if survived:
            ended(start(folder), wait=True)
        found = run_differences(scratch / "whole" / "run", folder / "run")
        outcome.equal += not found
        outcome.differences += [f"run {outcome.runs}: {line}" for line in found]
        inside = sum(outcome.inside.values())
        report(f"{outcome.kills} kills, {inside} inside a save; {outcome.equal} of {outcome.runs} runs equal")
        if not found:
            shutil.rmtree(folder)
    return {
        "kills": outcome.kills,
        "kills_aimed_at_saves": outcome.aimed,
        "kills_inside_a_save": sum(outcome.inside.values()),
        "interrupted": dict(sorted(outcome.inside.items())),
        "runs": outcome.runs,
        "runs_equal_bit_for_bit": outcome.equal,
        "differences": outcome.differences[:50],
        "iterations_of_a_run": ITERATIONS,
        "run_seconds": round(run_seconds, 3),
    }


def _save_seconds(folder: Path) -> float:
    """How long a save's temporary folder is there, as another process sees it: the median over a run."""
    child = start(folder)
    checkpoints, first, last = folder / "run" / "checkpoints", {}, {}

    def look() -> bool:
        for name in half_written(checkpoints):
            first.setdefault(name, time.monotonic())
            last[name] = time.monotonic()
        return False

    wait_until(child, look)
    return float(np.median([last[name] - first[name] for name in first]))


def main() -> None:
    """Kill, compare, print, and write JSON if asked; exits 1 where a run was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="where the runs lie while they are killed")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="kill_test_", dir=arguments.scratch))
    began = time.monotonic()
    measured = measure(arguments.kills, arguments.seed, scratch)
    lost = measured["runs_equal_bit_for_bit"] < measured["runs"]
    for line in measured["differences"]:
        print(line)
    if lost:
        print(f"the runs that differ are kept in {scratch}")
    else:
        shutil.rmtree(scratch)
    if arguments.json:
        document = {
            "seed": arguments.seed,
            **measured,
            "seconds": round(time.monotonic() - began),
        }
        write_figures(arguments.json, document)
    sys.exit(lost)


if __name__ == "__main__":
    main()
