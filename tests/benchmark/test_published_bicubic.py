"""Bicubic upscaling of the benchmark sets, beside published figures.

`golden_bicubic.json` holds what `mvmsr test --method bicubic --set-names Set5 Set14 BSD100 Urban100 --protocol P`
measured for both protocols P.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mvmsr.benchmark.evaluate import evaluate
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.methods import Bicubic
from mvmsr.metrics import Psnr, Ssim, make_protocol

GOLDEN = json.loads(Path(__file__).with_name("golden_bicubic.json").read_text(encoding="utf-8"))
PUBLISHED = {
    "Set5": ("28.42", "0.8104"),
    "Set14": ("26.00", "0.7027"),
    "BSD100": ("25.96", "0.6675"),
    "Urban100": ("23.14", "0.6577"),
}
"""Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", 2016, and papers since."""


def load(name: str) -> ImageSet:
    if not os.environ.get("MVMSR_DATA_ROOT"):
        pytest.skip("no benchmark images; set MVMSR_DATA_ROOT to the folder that holds Set5 and the others")
    return load_image_set(name, os.environ["MVMSR_DATA_ROOT"], scale=4)


def means(set_name: str, protocol: str) -> tuple[float, float]:
    scores = evaluate(Bicubic(4), load(set_name), {"psnr": Psnr(), "ssim": Ssim()}, make_protocol(protocol, 4))
    assert [score.error for score in scores] == [None] * len(scores)
    psnr, ssim = (sum(score.scores[key] for score in scores) / len(scores) for key in ("psnr", "ssim"))
    return psnr, ssim


@pytest.mark.parametrize("set_name", PUBLISHED)
def test_the_golden_figures_are_the_published_ones(set_name: str) -> None:
    golden = GOLDEN["y_only"][set_name]
    assert (f"{golden['psnr']:.2f}", f"{golden['ssim']:.4f}") == PUBLISHED[set_name]


@pytest.mark.data
@pytest.mark.parametrize("protocol", ["y_only", "y"])
@pytest.mark.parametrize(
    "set_name",
    [
        "Set5",
        "Set14",
        pytest.param("BSD100", marks=pytest.mark.slow),
        pytest.param("Urban100", marks=pytest.mark.slow),
    ],
)
def test_golden(set_name: str, protocol: str) -> None:
    golden = GOLDEN[protocol][set_name]
    psnr, ssim = means(set_name, protocol)
    assert psnr == pytest.approx(golden["psnr"], abs=1e-4)
    assert ssim == pytest.approx(golden["ssim"], abs=1e-5)


@pytest.mark.data
@pytest.mark.parametrize(
    ("protocol", "psnr", "ssim"),
    [("y_float", 28.4314, 0.8113), ("rgb", 26.696, 0.7734), ("rgb_zero_pad", 26.703, 0.7805)],
)
def test_other_protocols(protocol: str, psnr: float, ssim: float) -> None:
    found = means("Set5", protocol)
    assert found == (pytest.approx(psnr, abs=0.001), pytest.approx(ssim, abs=1e-4))
