"""Seconds per picture of PSNR + SSIM and of NIQE, ours beside BasicSR 1.4.2's, picture by picture.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--set-name Urban100] [--pictures 100] [--threads 1] [--json FILE]

Both sides score the same pictures (bicubic results and originals, in memory, as either expects them: RGB for ours, BGR
for BasicSR's): PSNR and SSIM on unrounded luma with 4 pixels cropped (protocol `y_float`; `calculate_psnr` and
`calculate_ssim` with `test_y_channel`), NIQE on rounded luma (`niqe_y`; `calculate_niqe`). On every picture the two
take turns, and either is run `--repeats` times, of which the quickest counts; the ratio is taken per picture, and the
median over pictures is reported, so that other work on the machine slows both alike. The largest differences between
the two sides' values are reported too: a quick wrong metric would be none.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from figures import write_figures

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.benchmark.evaluate import score_picture
from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.data.imresize import imresize
from mvmsr.metrics import build_metrics, make_protocol

SCALE = 4
Scores = dict[str, float]
Score = Callable[[np.ndarray, np.ndarray], Scores]


def ours(names: list[str]) -> Score:
    """Our metrics as `mvmsr test` calls them; arguments RGB."""
    metrics, missing = build_metrics(names, device="cpu")
    if missing:
        raise SystemExit(missing[0].why)
    protocol = make_protocol("y_float", SCALE)

    def score(sr: np.ndarray, gt: np.ndarray) -> Scores:
        values, _ = score_picture(sr, gt, metrics, protocol)
        return {name: float("nan") if value is None else value for name, value in values.items()}

    return score


def basicsr() -> dict[str, Score]:
    """BasicSR's functions as its models call them; arguments BGR."""
    if import_basicsr() is None:
        raise SystemExit("BasicSR is not installed; pip install basicsr (Python 3.12 at most)")
    fidelity, natural = import_basicsr("basicsr.metrics.psnr_ssim"), import_basicsr("basicsr.metrics.niqe")
    assert fidelity is not None
    assert natural is not None
    return {
        "PSNR + SSIM": lambda sr, gt: {
            "psnr": fidelity.calculate_psnr(sr, gt, SCALE, test_y_channel=True),
            "ssim": fidelity.calculate_ssim(sr, gt, SCALE, test_y_channel=True),
        },
        "NIQE": lambda sr, gt: {"niqe_y": natural.calculate_niqe(sr, 0)},
    }


def quickest(score: Score, sr: np.ndarray, gt: np.ndarray, repeats: int) -> tuple[float, float, Scores]:
    """Seconds by the clock, seconds of the processor, and the scores."""
    best, best_cpu = float("inf"), float("inf")
    scores: Scores = {}
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        scores = score(sr, gt)
        best_cpu = min(best_cpu, time.process_time() - start_cpu)
        best = min(best, time.perf_counter() - start)
    return best, best_cpu, scores


def measure(set_name: str, pictures: int, repeats: int) -> dict[str, Any]:
    """Per job: the medians over pictures of either side's seconds and of their ratio, and the largest differences."""
    image_set = load_image_set(set_name, None, SCALE, "make")
    contenders = {"PSNR + SSIM": ours(["psnr", "ssim"]), "NIQE": ours(["niqe_y"])}
    theirs = basicsr()
    rows: dict[str, list[tuple[float, ...]]] = {job: [] for job in contenders}
    differences: Scores = {}
    for pair in image_set.pairs[:pictures]:
        lq, gt = image_set.load(pair)
        sr = imresize(lq, scale=SCALE)
        bgr = [np.ascontiguousarray(picture[..., ::-1]) for picture in (sr, gt)]
        for job, score in contenders.items():
            our_time, our_cpu, our_scores = quickest(score, sr, gt, repeats)
            their_time, their_cpu, their_scores = quickest(theirs[job], bgr[0], bgr[1], repeats)
            rows[job].append((our_time, our_cpu, their_time, their_cpu))
            for name, value in our_scores.items():
                difference = abs(value - their_scores[name])
                differences[name] = max(differences.get(name, 0.0), difference)
    results: dict[str, Any] = {}
    for job, times in rows.items():
        by_clock = [row[2] / row[0] for row in times]
        by_processor = [row[3] / row[1] for row in times]
        results[job] = {
            "ours_seconds": round(statistics.median(row[0] for row in times), 5),
            "basicsr_seconds": round(statistics.median(row[2] for row in times), 5),
            "ratio": round(statistics.median(by_clock), 2),
            "ratio_processor_seconds": round(statistics.median(by_processor), 2),
            "ratio_quartiles": [round(value, 2) for value in statistics.quantiles(by_clock, n=4)],
            "pictures": len(times),
        }
    return {"jobs": results, "largest_differences": differences}


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set-name", default="Urban100")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of OpenCV, which both sides filter with")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    warnings.simplefilter("ignore")  # BasicSR's, about means of nothing

    measured = measure(arguments.set_name, arguments.pictures, arguments.repeats)
    for job, row in measured["jobs"].items():
        print(
            f"{job:12s} ours {row['ours_seconds']:.4f} s, BasicSR {row['basicsr_seconds']:.4f} s an image: "
            f"{row['ratio']:.1f} times as fast ({row['ratio_processor_seconds']:.1f} by processor time)"
        )
    print("largest differences:", {name: f"{value:.2g}" for name, value in measured["largest_differences"].items()})
    if arguments.json:
        document = {
            "set": arguments.set_name,
            "repeats": arguments.repeats,
            "opencv_threads": arguments.threads,
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            **measured,
        }
        write_figures(arguments.json, document)


if __name__ == "__main__":
    main()
