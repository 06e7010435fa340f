"""Where manifold matching lies beside a GAN between distortion and perception: one plane, a sweep of weights.

    python benchmarks/weight_sweep.py --out results/weight_sweep [--json FILE] [--image FILE]

Trains the built-in model `psnr` on with L1 alone, L1 + MvM, L1 + relativistic GAN, and all three, with several
weights; everything else (start, pictures, seed, batches, iterations, rates) is the same, but for the metric network's
first fifth, in which it learns before its terms count. Then scores them by `mvmsr test` and draws PSNR against ST-LPIPS
and NIQE, one line a method. Can be stopped: the same command goes on. An hour and a half on one CPU core with
bfloat16 in hardware.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
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
    "L1": ((0.0,), (0.0,)),
    "L1 + MvM": (MATCHING, (0.0,) * 3),
    "L1 + RaGAN": ((0.0,) * 3, GAN),
    "L1 + MvM + RaGAN": (MATCHING, GAN),
}
"""The weights of matching and of the GAN in each of a method's runs."""
METRICS = ("psnr", "ssim", "niqe", "st_lpips")
LABELS = {"L1 + MvM": (6, -3, "left"), "L1 + RaGAN": (-6, 4, "right"), "L1 + MvM + RaGAN": (-5, -10, "right")}
"""Where a run's weight is written beside its point: offset in points, and which end is there."""
AXES = {"st_lpips": "ST-LPIPS (lower is better)", "niqe": "NIQE (lower is better)"}


def options(name: str, matching: float, gan: float, iterations: int, seed: int) -> dict[str, Any]:
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
    run: dict[str, Any] = {
        "name": name,
        "scale": 4,
        "manual_seed": seed,
        "datasets": {"train": {"dataroot_gt": "datasets/BSDS400", "gt_size": 96, "batch_size_per_gpu": 8}},
        "network_g": {"type": "SRResNet", "num_feat": 64, "num_block": 16, "bn": False, "global_skip": "bicubic"},
        "path": {"pretrain_network_g": str(START)},
        "train": train,
        "logger": {"print_freq": 50, "save_checkpoint_freq": 100, "keep_last": 1},
    }
    if matching:
        run["network_m"] = {"type": "MetricNet", "norm": "group", "init": "detail"}
        train |= {
            "optim_m": {**adam, "lr": 3e-4},
            "match_after_iter": iterations // 5,  # until then its metric says little
            "pair_opt": {"type": "PairLoss", "loss_weight": matching},
            "manifold_opt": {"type": "ManifoldMatchingLoss", "loss_weight": matching, "preset": "paper"},
            "triplet_opt": {"type": "DirectedTripletLoss", "preset": "paper", "triplets": "all"},
        }
    if gan:
        run["network_d"] = {"type": "SRGANDiscriminator"}
        train |= {
            "optim_d": adam,
            "gan_opt": {"type": "GANLoss", "gan_type": "relativistic", "loss_weight": gan},
        }
    return run


def runs() -> list[tuple[str, str, float, float]]:
    """Method, name, weight of matching and weight of the GAN of every run."""
    return [
        (method, _name(matching, gan), matching, gan)
        for method, weights in METHODS.items()
        for matching, gan in zip(*weights, strict=True)
    ]


def _name(matching: float, gan: float) -> str:
    parts = [f"{name}_{weight:g}" for name, weight in (("mvm", matching), ("ragan", gan)) if weight]
    return "_".join(parts) or "l1"


def train_all(out: Path, iterations: int, seed: int) -> None:
    """Every run that is not finished."""
    out.mkdir(parents=True, exist_ok=True)
    for _, name, matching, gan in runs():
        if final_weights(out, name, iterations).is_file():
            continue
        file = out / f"{name}.yml"
        file.write_text(yaml.safe_dump(options(name, matching, gan, iterations, seed), sort_keys=False))
        mvmsr("train", "-opt", str(file), "--auto-resume", "--set", f"path.experiments_root={out / 'runs'}")


def final_weights(out: Path, name: str, iterations: int) -> Path:
    return out / "runs" / name / "weights" / f"{name}_g_{iterations:08d}.safetensors"


def score(out: Path, iterations: int, sets: list[str]) -> dict[str, Any]:
    """The results of `mvmsr test` on all runs and what they began from."""
    methods = [f"start={START}", *(f"{name}={final_weights(out, name, iterations)}" for _, name, *_ in runs())]
    table = ["--set-names", *sets, "--metrics", *METRICS, "--protocol", "y", "--out", str(out / "benchmark")]
    mvmsr("test", "--method", *methods, *table)
    return json.loads((out / "benchmark" / "results.json").read_text(encoding="utf-8"))


def mvmsr(*arguments: str) -> None:
    """Run a command of the package; its failure ends the program."""
    subprocess.run([sys.executable, "-c", "from mvmsr.cli import main; main()", *arguments], check=True)


def points(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean scores of every run on every set."""
    means = {(row["method"], row["set"]): row for row in results["means"]}
    sets = list(dict.fromkeys(row["set"] for row in results["means"]))
    every = [("start", "start", 0.0, 0.0), *runs()]
    return [
        {"method": method, "matching": matching, "gan": gan, "set": s}
        | {m: round(means[name, s][m], 4) for m in METRICS}
        for method, name, matching, gan in every
        for s in sets
    ]


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """PSNR against each measure of perception, one row of panels a set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sets = list(dict.fromkeys(point["set"] for point in found))
    figure, panels = plt.subplots(len(sets), len(AXES), figsize=(10, 4 * len(sets)), squeeze=False)
    for row, set_name in zip(panels, sets, strict=True):
        for panel, (metric, label) in zip(row, AXES.items(), strict=True):
            for method in ("start", *METHODS):
                own = [p for p in found if p["method"] == method and p["set"] == set_name]
                marker = {"start": "k*", "L1": "ks"}.get(method, "o-")
                right, up, end = LABELS.get(method, (5, 3, "left"))
                (line,) = panel.plot(
                    [p["psnr"] for p in own], [p[metric] for p in own], marker, label=method, markersize=5
                )
                for p in own:
                    weight = p["matching"] or p["gan"]  # both together: the GAN's is a tenth of it
                    look = {"textcoords": "offset points", "ha": end, "fontsize": 7, "color": line.get_color()}
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set-names", nargs="+", default=["Set14", "BSD100"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image", type=Path)
    arguments = parser.parse_args()
    train_all(arguments.out, arguments.iterations, arguments.seed)
    found = points(score(arguments.out, arguments.iterations, arguments.set_names))
    for p in found:
        print(
            f"{p['set']:10} {p['method']:18} {p['matching']:<6g} {p['gan']:<6g}", *(f"{m} {p[m]:.4f}" for m in METRICS)
        )
    if arguments.image:
        plot(found, arguments.image)
    if arguments.json:
        about: dict[str, Any] = {"iterations": arguments.iterations, "seed": arguments.seed}
        about |= {"batch": 8, "lq_patch": 24, "pictures": "BSDS400", "start": "mvmsr/models/psnr.safetensors"}
        write_figures(arguments.json, {**about, "points": found})


if __name__ == "__main__":
    main()
