"""The curves of one or several runs as one small image: what `mvmsr report` shows at length.

python benchmarks/run_curves.py experiments/l1_srresnet_x4_cpu experiments/mvm_srresnet_x4_cpu -o curves.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mvmsr.engine.logs import read_stats
from mvmsr.engine.run_dir import RunDir

Points = list[tuple[int, float]]

PANELS = {
    "pixel loss": ("loss_g/pixel",),
    "triplet loss (dashed: held-out patches)": ("loss_m/triplet", "held_out/triplet"),
    "2-diameters of gt (dashed: sr)": ("diam2_gt", "diam2_sr"),
    "distance of pairs": ("d_p",),
    "distance of centroids": ("d_c",),
    "difference of 2-diameters": ("d_g",),
    "Hausdorff distance": ("d_h",),
}


def points(records: Sequence[dict[str, float]], key: str) -> Points:
    """The logged values of one key."""
    return [(int(record["iter"]), record[key]) for record in records if key in record]


def smoothed(values: Points, window: int = 9) -> Points:
    """Means over up to `window` values around each.

    >>> smoothed([(1, 0.0), (2, 3.0), (3, 9.0)], window=3)
    [(1, 1.5), (2, 4.0), (3, 6.0)]
    """
    reach = window // 2
    near = [values[max(0, k - reach) : k + reach + 1] for k in range(len(values))]
    return [(at, sum(v for _, v in part) / len(part)) for (at, _), part in zip(values, near, strict=True)]


def plot(runs: dict[str, list[dict[str, float]]], score: str, path: Path) -> None:
    """One panel for the score, one for each of `PANELS`; few values are drawn as they are, many smoothed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.6), layout="constrained")
    for place, (title, keys) in enumerate({score.removeprefix("val/"): (score,), **PANELS}.items()):
        axes = figure.add_subplot(2, 4, place + 1, title=title)
        axes.grid(alpha=0.3)
        for number, (name, records) in enumerate(runs.items()):
            for key, style in zip(keys, ("-", "--"), strict=False):
                found = points(records, key)
                if len(found) > 30:
                    found = smoothed(found)
                axes.plot(*zip(*found, strict=True) if found else ([], []), style, color=f"C{number}", label=name)
        if place == 0:
            axes.legend(fontsize="small")
        elif place > 1:
            axes.set_ylim(bottom=0)
        if place > 3:
            axes.set_xlabel("iteration")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Read the runs' records and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--score", default="val/Set5/psnr", help="key of the first panel")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    plot({run.name: read_stats(RunDir(run).stats) for run in args.runs}, args.score, args.out)
    print(args.out)


if __name__ == "__main__":
    main()
