"""Does the metric network learn a distance that holds on pictures it never saw, and does it stay alive?

    for seed in 0 1 2; do
        mvmsr train -opt options/train/mvm_srresnet_x4_cpu.yml --set manual_seed=$seed name=health_$seed \\
            val.val_freq=500 datasets.val.name=BSD100 datasets.val_2=~
    done
    python benchmarks/metric_health.py experiments/health_* [--json FILE] [--image FILE]

From the records of the runs: the triplet loss of 1,024 patches of the validation pictures, in evaluation mode, against
what the generator makes of them at that iteration, and their 2-diameter. A run is healthy if its triplet loss falls
below half the margin within --within iterations and stays there, with a 2-diameter of the real patches from 0.1 to 30.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from figures import write_figures

TRIPLET, DIAMETER = "held_out/triplet", "held_out/diam2_gt"
SMALLEST, LARGEST = 0.1, 30.0


def read(run: Path) -> dict[str, Any]:
    """A run's options of interest and its curves."""
    options = yaml.safe_load((run / "options.yml").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = [record for record in records if TRIPLET in record]
    if not seen:
        raise SystemExit(f"{run}: no {TRIPLET} in stats.jsonl; train with val.embedding_patches above 0")
    return {
        "run": run.name,
        "seed": options["manual_seed"],
        "margin": options["train"]["triplet_opt"].get("margin", 1.0),
        "iterations": [record["iter"] for record in seen],
        "triplet": [round(record[TRIPLET], 4) for record in seen],
        "diam2_gt": [round(record[DIAMETER], 4) for record in seen],
    }


def judge(run: dict[str, Any], within: int) -> dict[str, Any]:
    """When the triplet loss fell below half the margin for good, and whether all is well."""
    half = run["margin"] / 2
    above = [k for k, value in enumerate(run["triplet"]) if value >= half]
    first = above[-1] + 1 if above else 0
    since = run["iterations"][first] if first < len(run["iterations"]) else None
    alive = all(SMALLEST <= value <= LARGEST for value in run["diam2_gt"])
    return {"below_half_since": since, "alive": alive, "healthy": alive and since is not None and since <= within}


def plot(runs: list[dict[str, Any]], within: int, path: Path) -> None:
    """Both curves of all runs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for run in runs:
        left.plot(run["iterations"], run["triplet"], marker=".", label=f"seed {run['seed']}")
        right.plot(run["iterations"], run["diam2_gt"], marker=".", label=f"seed {run['seed']}")
    left.axhline(runs[0]["margin"] / 2, color="grey", linestyle="--", linewidth=1)
    left.axvline(within, color="grey", linestyle=":", linewidth=1)
    half, below = (0.99, runs[0]["margin"] / 2), (0, -3)
    left.annotate(
        "half the margin", half, below, ("axes fraction", "data"), textcoords="offset points", ha="right", va="top"
    )
    for axes, title in ((left, "triplet loss, held-out patches"), (right, "2-diameter, held-out real patches")):
        axes.set(xlabel="iteration", title=title, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Judge, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--within", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--image", type=Path)
    arguments = parser.parse_args()
    runs = [read(run) for run in arguments.runs]
    verdicts = [judge(run, arguments.within) for run in runs]
    for run, verdict in zip(runs, verdicts, strict=True):
        state = "healthy" if verdict["healthy"] else "NOT healthy"
        print(
            f"{run['run']} (seed {run['seed']}): {state}; below half the margin since iteration "
            f"{verdict['below_half_since']}; triplet {run['triplet'][-1]:.3f}, 2-diameter "
            f"{min(run['diam2_gt']):.2f} to {max(run['diam2_gt']):.2f}"
        )
    if arguments.image:
        plot(runs, arguments.within, arguments.image)
    if arguments.json:
        found = [{**run, **verdict} for run, verdict in zip(runs, verdicts, strict=True)]
        write_figures(arguments.json, {"runs": found})


if __name__ == "__main__":
    main()
