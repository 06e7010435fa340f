"""Our figures beside those of the metrics' original programs, on five distorted pictures of TID2013."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mvmsr.color import rgb_to_gray
from mvmsr.data.image_io import read_rgb
from mvmsr.metrics import Metric, MissingMetric, build_metrics, make_protocol
from mvmsr.metrics.psnr import psnr
from mvmsr.metrics.ssim import ssim

pytestmark = pytest.mark.data
NAMES = ("I03", "I04", "I06", "I08", "I19")
GOLDEN: dict[str, dict[str, float]] = json.loads(Path(__file__).with_name("golden_calibration.json").read_text())


@pytest.fixture(scope="module")
def folder() -> Path:
    places = [os.environ.get("MVMSR_CALIBRATION")]
    if data_root := os.environ.get("MVMSR_DATA_ROOT"):
        places.append(str(Path(data_root).parent / "calibration"))
    for place in places:
        if place and (Path(place) / "official_scores.csv").is_file():
            return Path(place)
    pytest.skip("no calibration images; set MVMSR_CALIBRATION to the folder with official_scores.csv")


@pytest.fixture(scope="module")
def official(folder: Path) -> dict[str, list[float]]:
    with (folder / "official_scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [name.split(".")[0] for name in rows[0][1:]] == list(NAMES)
    return {row[0]: [float(value) for value in row[1:]] for row in rows[1:]}


def distorted_and_original(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    return read_rgb(folder / "dist_dir" / f"{name}.png"), read_rgb(folder / "ref_dir" / f"{name}.png")


@pytest.mark.parametrize("index", range(5), ids=NAMES)
def test_psnr_and_ssim(index: int, folder: Path, official: dict[str, list[float]]) -> None:
    pictures = distorted_and_original(folder, NAMES[index])
    rgb = [picture.astype(float) for picture in pictures]
    gray = [rgb_to_gray(picture)[None] for picture in pictures]
    assert psnr(*rgb) == pytest.approx(official["psnr"][index], abs=0.006)
    assert ssim(*gray) == pytest.approx(official["ssim"][index], abs=1e-4)


PYIQA_NIQE_ERRORS = (0.1004, 1e-4, 0.0013, 0.0082, 0.4375)
"""How far pyiqa 0.1.16 with the same pristine model lies from the official figures."""


@pytest.mark.parametrize("index", range(5), ids=NAMES)
def test_niqe(index: int, folder: Path, official: dict[str, list[float]]) -> None:
    metric = needed("niqe")
    picture, _ = distorted_and_original(folder, NAMES[index])
    value = metric(picture, None, make_protocol("y", 4))
    assert value == pytest.approx(official["niqe"][index], rel=1e-4)
    assert abs(value - official["niqe"][index]) <= PYIQA_NIQE_ERRORS[index]


@pytest.mark.parametrize("index", range(5), ids=NAMES)
def test_lpips(index: int, folder: Path, official: dict[str, list[float]]) -> None:
    metric = needed("lpips")
    value = metric(*distorted_and_original(folder, NAMES[index]), make_protocol("y", 4))
    assert value == pytest.approx(official["lpips"][index], abs=2e-3)


@pytest.mark.parametrize(
    "metric_name",
    [pytest.param(name, marks=pytest.mark.slow) if "lpips" in name else name for name in sorted(GOLDEN)],
)
def test_golden_values(metric_name: str, folder: Path) -> None:
    """The recorded values: ST-LPIPS by its authors' package, the others by ours; `y_float` for PSNR and SSIM."""
    metric = needed(metric_name)
    for name, expected in GOLDEN[metric_name].items():
        value = metric(*distorted_and_original(folder, name), make_protocol("y_float", 4))
        assert value == pytest.approx(expected, rel=1e-5 if "lpips" in metric_name else 1e-8), name


def needed(name: str) -> Metric:
    metrics, missing = build_metrics([name], device="cpu")
    for entry in missing:
        assert isinstance(entry, MissingMetric)
        pytest.skip(entry.why)
    return metrics[name]
