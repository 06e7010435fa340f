"""Seconds per training step on a free machine, and beside another program that keeps one processor busy.

    python benchmarks/busy_neighbour.py [--json FILE]

The steps are those of `train_step.py` (SRResNet 16x64 without BN, L1, batch size 8, patches of 24 pixels, precision and
layout as `auto` picks them). They are measured with libgomp's own setting, with the one that the `mvmsr` command makes
(`mvmsr/cli/openmp.py`), and with a single thread, each in a process of its own, since libgomp reads its settings once.
The busy program runs in a session of its own, as one started from another terminal would.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mvmsr.cli.openmp import SPINS

VARIANTS = {
    "libgomp's default": {},
    "mvmsr's setting": {"GOMP_SPINCOUNT": str(SPINS)},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY_PROGRAM = [sys.executable, "-c", "while True: pass"]


def main() -> None:
    """Measure every variant, print them, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure each case")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # in the processes that measure
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.seconds)))
        return
    figures = {}
    for name, settings in VARIANTS.items():
        figures[name] = _in_own_process(settings, arguments.seconds)
        print(f"{name}: " + ", ".join(f"{case} {value:.3f} s" for case, value in figures[name].items()), flush=True)
    if arguments.json:
        from figures import write_figures

        write_figures(arguments.json, {"seconds_per_step": figures})


def measure(seconds: float) -> dict[str, float]:
    """Median seconds of a step on the free machine and beside the busy program."""
    import torch
    from train_step import our_model

    from mvmsr.data.batches import Batch
    from mvmsr.heap import keep_for_reuse

    logging.disable(logging.WARNING)
    keep_for_reuse()
    torch.manual_seed(0)
    lq = torch.randint(0, 256, (8, 3, 24, 24), dtype=torch.uint8)
    gt = torch.randint(0, 256, (8, 3, 96, 96), dtype=torch.uint8)
    iterate = our_model("l1", Batch(lq, gt, ["random"] * len(lq), 0), "auto")

    def median() -> float:
        durations: list[float] = []
        while sum(durations) < seconds or len(durations) < 3:
            start = time.perf_counter()
            iterate()
            durations.append(time.perf_counter() - start)
        return statistics.median(durations)

    for _ in range(5):  # compiles
        iterate()
    free = median()
    with subprocess.Popen(BUSY_PROGRAM, start_new_session=True) as busy:
        time.sleep(1)
        beside = median()
        busy.kill()
    return {"free": free, "beside a busy program": beside}


def _in_own_process(settings: dict[str, str], seconds: float) -> dict[str, float]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, "--one", "--seconds", str(seconds)]
    finished = subprocess.run(command, env=inherited | settings, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
