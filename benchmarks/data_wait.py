"""How long training waits for data: microseconds per crop, and the share of a training step spent waiting.

    python benchmarks/data_wait.py --dataroot datasets/BSDS400 [--json FILE]

A step of the trainer is stood in for by sleeping `--step-sec`; the wait is the time that `next()` on the prefetching
iterator takes between steps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import write_figures
from rich.console import Console

from mvmsr.data import PairedImageDataset, TrainBatches, write_rgb


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataroot", help="folder of images; made ones (481x321) are used where it is left out")
    parser.add_argument("--cache-dir", help="where to pack them; a temporary folder by default")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--gt-size", type=int, default=96)
    parser.add_argument("--batches", type=int, default=200, help="how many batches to time without prefetching")
    parser.add_argument("--steps", type=int, default=50, help="how many simulated training steps")
    parser.add_argument("--step-sec", type=float, default=0.09)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(arguments, Path(scratch))
    Console().print_json(data=figures)
    if arguments.json:
        write_figures(arguments.json, figures)


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """Times of packing, opening and drawing, and of waiting beside training steps that only sleep."""
    root = arguments.dataroot or made_pictures(scratch / "made")
    cache_dir = arguments.cache_dir or scratch / "cache"
    start = time.perf_counter()
    dataset = PairedImageDataset(str(root), gt_size=arguments.gt_size, cache_dir=cache_dir)
    packing_sec = time.perf_counter() - start
    start = time.perf_counter()
    dataset = PairedImageDataset(str(root), gt_size=arguments.gt_size, cache_dir=cache_dir)
    opening_sec = time.perf_counter() - start

    batches = TrainBatches(dataset, arguments.batch_size, seed=0)
    for index in range(20):
        batches.batch(index)
    seconds = []
    for index in range(arguments.batches):
        start = time.perf_counter()
        batches.batch(index)
        seconds.append(time.perf_counter() - start)

    waits = []
    stream = batches.iterate(0, arguments.steps + 1)
    next(stream)
    for _ in range(arguments.steps):
        time.sleep(arguments.step_sec)
        start = time.perf_counter()
        next(stream)
        waits.append(time.perf_counter() - start)
    stream.close()
    wait_sec = float(np.mean(waits))
    return {
        "microseconds_per_crop_median": round(1e6 * float(np.median(seconds)) / arguments.batch_size, 1),
        "microseconds_per_crop_p95": round(1e6 * float(np.quantile(seconds, 0.95)) / arguments.batch_size, 1),
        "milliseconds_per_batch_median": round(1e3 * float(np.median(seconds)), 3),
        "wait_share_percent": round(100 * wait_sec / (wait_sec + arguments.step_sec), 4),
        "wait_milliseconds_mean": round(1e3 * wait_sec, 4),
        "step_seconds": arguments.step_sec,
        "packing_seconds": round(packing_sec, 2),
        "opening_seconds": round(opening_sec, 3),
        "pictures": len(dataset),
        "batch_size": arguments.batch_size,
        "gt_size": arguments.gt_size,
    }


def made_pictures(folder: Path, count: int = 40) -> Path:
    """A folder of noise as large as BSDS400's photographs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        write_rgb(folder / f"{number:03}.bmp", rng.integers(0, 256, (321, 481, 3), dtype=np.uint8))
    return folder


if __name__ == "__main__":
    main()
