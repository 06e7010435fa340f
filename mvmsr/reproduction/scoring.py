"""Benchmark what is trained: every finished row on the four sets, by the paper's convention and on luma."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from mvmsr.benchmark.plan import Plan
from mvmsr.benchmark.results import Results, write_results
from mvmsr.benchmark.run import run_benchmark
from mvmsr.reproduction.published import SETS
from mvmsr.reproduction.rows import Row
from mvmsr.reproduction.runs import Run, stale_runs

PAPER, LUMA = "rgb_zero_pad", "y"
PROTOCOLS = (PAPER, LUMA)
METRICS = {PAPER: ("psnr", "ssim", "lpips", "niqe", "st_lpips"), LUMA: ("psnr", "ssim")}
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Score:
    """A row's score on a set: the mean over seeds of means over pictures, and its spread over the seeds.

    Attributes:
        deviation: standard deviation over the seeds; None with one seed.
        images: by picture, the mean over the seeds, where every seed has a score.
        of: how many pictures of the set any row has; 0 where that was not counted.
    """

    mean: float
    deviation: float | None
    seeds: int
    images: Mapping[str, float]
    of: int = 0

    @property
    def part(self) -> str:
        """`2 of 3` where pictures are lacking that another row has: such a mean cannot be compared; else empty."""
        return f"{len(self.images)} of {self.of}" if len(self.images) < self.of else ""


Scores = dict[str, dict[str, dict[str, Score]]]
"""By row, set and metric; what was not measured is not there."""


def benchmark(
    runs: Sequence[Run],
    rows: Sequence[Row],
    out: Path,
    data_root: str | None = None,
    metrics: Mapping[str, tuple[str, ...]] = METRICS,
    progress: Progress | None = None,
) -> dict[str, Results]:
    """The results by protocol; empty where nothing is done.

    Pictures are restored once: luma is scored on what was saved. Scores of before hold as long as weights and
    conditions are the same.
    """
    stale = stale_runs(runs)  # however far they are, they are no runs of this table
    finished = [run for run in runs if run.row is not None and run.done and run.key not in stale]
    methods = [f"{run.key}={run.weights}" for run in finished]
    methods += [f"{row.key}_seed0=bicubic" for row in rows if not row.stem]
    if not methods:
        return {}
    results: dict[str, Results] = {}
    for protocol in PROTOCOLS:
        folder = out / "benchmark" / protocol
        if protocol != PAPER:
            labels = [method.partition("=")[0] for method in methods]
            pictures = out / "benchmark" / PAPER / "images"
            methods = [f"{label}=images:{pictures / label}" for label in labels if (pictures / label).is_dir()]
            if not methods:
                continue
        plan = Plan(
            methods=tuple(methods),
            sets=SETS,
            metrics=metrics[protocol],
            protocol=protocol,
            data_root=data_root,
            out=str(folder),
            save_images=protocol == PAPER,
            allow_missing=True,
        )
        results[protocol] = run_benchmark(plan, progress)
        write_results(folder / "results.json", results[protocol])
    return results


def scores_by_row(results: Results) -> Scores:
    """The scores of results whose methods are called ROW_seedN."""
    pictures: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
    for line in results["images"]:
        row, _, seed = line["method"].rpartition("_seed")
        for metric in results["metrics"]:
            if line.get(metric) is not None:
                pictures.setdefault((row, line["set"], metric), {}).setdefault(seed, {})[line["image"]] = line[metric]
    every: dict[tuple[str, str], set[str]] = {}
    for (_, set_name, metric), seeds in pictures.items():
        every.setdefault((set_name, metric), set()).update(*seeds.values())
    scores: Scores = {}
    for (row, set_name, metric), seeds in pictures.items():
        means = [mean(images.values()) for images in seeds.values()]
        shared = set.intersection(*(set(images) for images in seeds.values()))
        by_image = {image: mean(images[image] for images in seeds.values()) for image in sorted(shared)}
        deviation = stdev(means) if len(means) > 1 else None
        scores.setdefault(row, {}).setdefault(set_name, {})[metric] = Score(
            mean(means), deviation, len(means), by_image, len(every[set_name, metric])
        )
    return scores
