"""Does bfloat16 cost quality? The same training in float32 and in bfloat16, scored after the same iterations.

    python benchmarks/precision.py [--iters 800] [--seeds 1] [--data-root DIR] [--json FILE]

SRResNet 16x64 without BN (`global_skip: bicubic`), L1, batch 8, low-resolution patches of 24 pixels of BSDS400, cosine
schedule from 2e-4 to 0, averaged weights. PSNR by protocol `y` on Set5 and Set14, of weights that are evaluated in
float32, so that only training differs. Both runs of a seed see the same batches and begin at the same weights.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import write_figures

from mvmsr.benchmark.plan import Plan
from mvmsr.benchmark.run import run_benchmark
from mvmsr.config.load import validate
from mvmsr.config.yaml_source import Source
from mvmsr.engine.loop import train

SETS = ("Set5", "Set14")


def trained(precision: str, seed: int, iters: int, root: Path) -> tuple[Path, float]:
    """The weights of one run, and its seconds."""
    options: dict[str, Any] = {
        "name": f"{precision}_{seed}",
        "scale": 4,
        "manual_seed": seed,
        "precision": precision,
        "datasets": {"train": {"dataroot_gt": "datasets/BSDS400", "gt_size": 96, "batch_size_per_gpu": 8}},
        "network_g": {"type": "SRResNet", "bn": False, "global_skip": "bicubic"},
        "path": {"experiments_root": str(root)},
        "train": {
            "total_iter": iters,
            "ema_decay": 0.999,
            "optim_g": {"type": "Adam", "lr": 2e-4},
            "scheduler": {"type": "CosineAnnealingLR"},
            "pixel_opt": {"type": "L1Loss"},
        },
        "logger": {"print_freq": max(1, iters // 10), "save_checkpoint_freq": iters, "use_tb_logger": False},
    }
    start = time.perf_counter()
    run = train(validate(options, Source("precision")))
    (weights,) = run.weights.glob(f"*_{iters:08d}.safetensors")
    return weights, time.perf_counter() - start


def main() -> None:
    """Train, score, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iters", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data-root", help="folder of BSDS400, Set5 and Set14; else $MVMSR_DATA_ROOT, else ./datasets")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.data_root:
        os.environ["MVMSR_DATA_ROOT"] = arguments.data_root

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seeds):
            for precision in ("bf16-mixed", "32"):
                weights, seconds = trained(precision, seed, arguments.iters, Path(folder))
                plan = Plan(methods=(f"net={weights}",), sets=SETS, metrics=("psnr", "ssim"), precision="32")
                means = {row["set"]: {k: row[k] for k in plan.metrics} for row in run_benchmark(plan)["means"]}
                rows.append({"precision": precision, "seed": seed, "seconds": round(seconds, 1), "scores": means})
    for row in rows:
        scores = "  ".join(f"{name} {s['psnr']:.3f} dB / {s['ssim']:.4f}" for name, s in row["scores"].items())
        print(f"seed {row['seed']}  {row['precision']:10s}  {row['seconds']:7.1f} s  {scores}")
    differences = {
        name: [
            a["scores"][name]["psnr"] - b["scores"][name]["psnr"] for a, b in zip(rows[::2], rows[1::2], strict=True)
        ]
        for name in SETS
    }
    for name, values in differences.items():
        print(f"{name}: bfloat16 minus float32 {', '.join(f'{value:+.3f}' for value in values)} dB")
    if arguments.json:
        document = {
            "about": " ".join((__doc__ or "").split("\n\n")[-1].split()),
            "iterations": arguments.iters,
            "runs": rows,
            "psnr_bf16_minus_float32": differences,
        }
        write_figures(arguments.json, document)


if __name__ == "__main__":
    main()
