"""Where manifold matching lies beside a GAN between distortion and perception: one plane, a sweep of weights.

    python benchmarks/weight_sweep.py --out results/weight_sweep --seeds 0 1 [--json FILE] [--image FILE]

Trains the built-in model `psnr` on with L1 alone, L1 + MvM, L1 + relativistic GAN, and all three, with several
weights; everything else (start, pictures, batches, iterations, rates) is the same, but for the metric network's first
fifth, in which it learns before its terms count. Then scores them by `mvmsr test` and draws PSNR against ST-LPIPS and
NIQE: a line a method through the means of the seeds, a faint point each seed. Can be stopped: the same command goes on.
One and a half to two hours a seed on one CPU core with bfloat16 in hardware.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from figures import write_figures

from mvmsr.inference.weights import BUILTIN_DIR

START = BUILTIN_DIR / "psnr.safetensors"
MATCHING = (1e-3, 3e-3, 1e-2)
"""Weights of both the pair and the manifold term."""
GAN = (1e-4, 3e-4, 1e-3)
"""Weights of the relativistic GAN: a tenth, for about the same distance from L1."""
METHODS = {
    "L1": ((0.0,), (0.0,), 0.0),
    "L1 + MvM": (MATCHING, (0.0,) * 3, 0.9),
    "L1 + MvM, beta1 0.5": (MATCHING, (0.0,) * 3, 0.5),
    "L1 + RaGAN": ((0.0,) * 3, GAN, 0.0),
    "L1 + MvM + RaGAN, beta1 0.5": (MATCHING, GAN, 0.5),
}
"""The weights of matching and of the GAN in each of a method's runs, and beta1 of the metric network's Adam."""
METRICS = ("psnr", "ssim", "niqe", "st_lpips")
LABELS = {
    "L1 + MvM": (6, -3, "left"),
    "L1 + MvM, beta1 0.5": (0, 7, "center"),
    "L1 + RaGAN": (-6, 4, "right"),
    "L1 + MvM + RaGAN, beta1 0.5": (-5, -10, "right"),
}
"""Where a run's weight is written beside its point: offset in points, and which end is there."""
AXES = {"st_lpips": "ST-LPIPS (lower is better)", "niqe": "NIQE (lower is better)"}


@dataclass(frozen=True)
class Run:
    """A method of `METHODS` at one pair of weights with one seed; `beta1` is 0 where there is no metric network."""

    method: str
    matching: float
    gan: float
    beta1: float
    seed: int

    @property
    def name(self) -> str:
        parts = ("mvm", self.matching), ("ragan", self.gan), ("beta", self.beta1)
        weights = [f"{name}_{w:g}" for name, w in parts if w]
        return f"{'_'.join(weights) or 'l1'}_seed{self.seed}"


def options(run: Run, iterations: int) -> dict[str, Any]:
    """One run, as an options file holds it; a weight of 0 leaves its part out."""
    adam = {"type": "Adam", "lr": 1e-4, "betas": [0.9, 0.999]}
    train: dict[str, Any] = {
        "total_iter": iterations,
        "ema_decay": 0.99,
        "optim_g": adam,
        "scheduler": {"type": "CosineAnnealingLR", "eta_min": 1e-6},
        "update": "simultaneous",
        "pixel_opt": {"type": "L1Loss"},
    }
    written: dict[str, Any] = {
        "name": run.name,
        "scale": 4,
        "manual_seed": run.seed,
        "datasets": {"train": {"dataroot_gt": "datasets/BSDS400", "gt_size": 96, "batch_size_per_gpu": 8}},
        "network_g": {"type": "SRResNet", "num_feat": 64, "num_block": 16, "bn": False, "global_skip": "bicubic"},
        "path": {"pretrain_network_g": str(START)},
        "train": train,
        "logger": {"print_freq": 50, "save_checkpoint_freq": 100, "keep_last": 1},
    }
    if run.matching:
        written["network_m"] = {"type": "MetricNet", "norm": "group", "init": "detail"}
        train |= {
            "optim_m": {**adam, "lr": 3e-4, "betas": [run.beta1, 0.999]},
            "match_after_iter": iterations // 5,  # until then its metric says little
            "pair_opt": {"type": "PairLoss", "loss_weight": run.matching},
            "manifold_opt": {"type": "ManifoldMatchingLoss", "loss_weight": run.matching, "preset": "paper"},
            "triplet_opt": {"type": "DirectedTripletLoss", "preset": "paper", "triplets": "all"},
        }
    if run.gan:
        written["network_d"] = {"type": "SRGANDiscriminator"}
        train |= {
            "optim_d": adam,
            "gan_opt": {"type": "GANLoss", "gan_type": "relativistic", "loss_weight": run.gan},
        }
    return written


def runs(seeds: Sequence[int]) -> list[Run]:
    """All runs of the sweep, seed by seed."""
    return [
        Run(method, matching, gan, beta1, seed)
        for seed in seeds
        for method, (matchings, gans, beta1) in METHODS.items()
        for matching, gan in zip(matchings, gans, strict=True)
    ]


def train_all(out: Path, iterations: int, seeds: Sequence[int]) -> None:
    """Every run that is not finished."""
    out.mkdir(parents=True, exist_ok=True)
    for run in runs(seeds):
        if final_weights(out, run.name, iterations).is_file():
            continue
        file = out / f"{run.name}.yml"
        file.write_text(yaml.safe_dump(options(run, iterations), sort_keys=False))
        mvmsr("train", "-opt", str(file), "--auto-resume", "--set", f"path.experiments_root={out / 'runs'}")


def final_weights(out: Path, name: str, iterations: int) -> Path:
    return out / "runs" / name / "weights" / f"{name}_g_{iterations:08d}.safetensors"


def score(out: Path, iterations: int, seeds: Sequence[int], sets: list[str]) -> dict[str, Any]:
    """The results of `mvmsr test` on all runs and what they began from."""
    methods = [f"{run.name}={final_weights(out, run.name, iterations)}" for run in runs(seeds)]
    table = ["--set-names", *sets, "--metrics", *METRICS, "--protocol", "y", "--out", str(out / "benchmark")]
    mvmsr("test", "--method", f"start={START}", *methods, *table)
    return json.loads((out / "benchmark" / "results.json").read_text(encoding="utf-8"))


def mvmsr(*arguments: str) -> None:
    """Run a command of the package; its failure ends the program."""
    subprocess.run([sys.executable, "-c", "from mvmsr.cli import main; main()", *arguments], check=True)


def points(results: dict[str, Any], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Mean scores over the images of every run on every set; those of the start have no seed."""
    means = {(row["method"], row["set"]): row for row in results["means"]}
    sets = list(dict.fromkeys(row["set"] for row in results["means"]))

    def scores(name: str, set_name: str) -> dict[str, float]:
        return {m: round(means[name, set_name][m], 4) for m in METRICS}

    start = [
        {"method": "start", "matching": 0.0, "gan": 0.0, "beta1": 0.0, "set": s} | scores("start", s) for s in sets
    ]
    return start + [asdict(run) | {"set": s} | scores(run.name, s) for run in runs(seeds) for s in sets]


def over_seeds(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points' means over the seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for point in found:
        groups.setdefault(tuple(point[key] for key in ("method", "matching", "gan", "set")), []).append(point)
    return [group[0] | {m: mean(p[m] for p in group) for m in METRICS} for group in groups.values()]


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """PSNR against each measure of perception, one row of panels a set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    means = over_seeds(found)
    sets = list(dict.fromkeys(point["set"] for point in found))
    figure, panels = plt.subplots(len(sets), len(AXES), figsize=(10, 4 * len(sets)), squeeze=False)
    for row, set_name in zip(panels, sets, strict=True):
        for panel, (metric, label) in zip(row, AXES.items(), strict=True):
            for method in ("start", *METHODS):
                own, each = ([p for p in of if p["method"] == method and p["set"] == set_name] for of in (means, found))
                marker = {"start": "k*", "L1": "ks"}.get(method, "o-")
                right, up, end = LABELS.get(method, (5, 3, "left"))
                (line,) = panel.plot(
                    [p["psnr"] for p in own], [p[metric] for p in own], marker, label=method, markersize=5
                )
                color = line.get_color()
                panel.plot([p["psnr"] for p in each], [p[metric] for p in each], ".", color=color, alpha=0.35)
                for p in own:
                    weight = p["matching"] or p["gan"]  # both together: the GAN's is a tenth of it
                    look = {"textcoords": "offset points", "ha": end, "fontsize": 7, "color": color}
                    panel.annotate(f"{weight:g}" if weight else "", (p["psnr"], p[metric]), xytext=(right, up), **look)
            panel.set(xlabel="PSNR (y), dB", ylabel=label, title=set_name)
            panel.margins(0.12)
            panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Train what is missing, score, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and scores")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set-names", nargs="+", default=["Set14", "BSD100"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image", type=Path)
    arguments = parser.parse_args()
    train_all(arguments.out, arguments.iterations, arguments.seeds)
    results = score(arguments.out, arguments.iterations, arguments.seeds, arguments.set_names)
    found = points(results, arguments.seeds)
    for p in over_seeds(found):
        print(
            f"{p['set']:10} {p['method']:18} {p['matching']:<6g} {p['gan']:<6g}", *(f"{m} {p[m]:.4f}" for m in METRICS)
        )
    if arguments.image:
        plot(found, arguments.image)
    if arguments.json:
        about: dict[str, Any] = {"iterations": arguments.iterations, "seeds": arguments.seeds}
        about |= {"batch": 8, "lq_patch": 24, "pictures": "BSDS400", "start": "mvmsr/models/psnr.safetensors"}
        write_figures(arguments.json, {**about, "points": found})


if __name__ == "__main__":
    main()
