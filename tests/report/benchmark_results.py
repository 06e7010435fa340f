"""A small benchmark as `mvmsr test` leaves it: results.json, and pictures of two methods on two sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvmsr.benchmark.evaluate import ImageScore
from mvmsr.benchmark.results import Results, make_results, write_results
from mvmsr.data.image_io import write_rgb
from mvmsr.metrics import MissingMetric, Niqe, Psnr, make_protocol

METRICS = {"psnr": Psnr(), "niqe": Niqe()}
SCORES = {
    ("bicubic", "A"): {"a1": (20.0, 8.0), "a2": (30.0, 9.0), "a3": (25.0, 7.0)},
    ("bicubic", "B"): {"b1": (22.0, 6.0)},
    ("mine", "A"): {"a1": (21.0, 7.9), "a2": (34.0, 5.0), "a3": (24.0, 7.5)},
    ("mine", "B"): {"b1": (24.0, 6.5)},
}
LPIPS = MissingMetric("lpips", "AlexNet weights <not> found\nget them")


def small_results(methods: tuple[str, ...] = ("bicubic", "mine"), lq: str = "make") -> Results:
    """Scores of two methods on three pictures of A and one of B; LPIPS is missing."""
    scores = [
        ImageScore(method, set_name, image, dict(zip(METRICS, values, strict=True)), 0.5)
        for (method, set_name), images in SCORES.items()
        if method in methods
        for image, values in images.items()
    ]
    about = [{"name": method, "source": None, "sha256": None} for method in methods]
    protocol = make_protocol("y", 4)
    return make_results(scores, protocol, METRICS, missing=[LPIPS], methods=about, device="cpu", lq=lq)


def picture(value: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A grey picture with a ramp, so that no two columns are alike."""
    ramp = np.broadcast_to(np.arange(width) // 2, (height, width))
    return np.repeat((value + ramp)[..., None], 3, axis=2).astype(np.uint8)


def save_benchmark(out: Path, results: Results | None = None, originals: bool = True) -> Path:
    """The folder, with pictures of every score; `mine` differs from bicubic in one square of each."""
    results = results or small_results()
    write_results(out / "results.json", results)
    for row in results["images"]:
        restored = picture(60)
        if row["method"] == "mine":
            restored[32:64, 80:112] += 100
        write_rgb(out / "images" / row["method"] / row["set"] / f"{row['image']}.png", restored)
        if originals:
            write_rgb(out / "originals" / row["set"] / f"{row['image']}.png", picture(62))
    return out
