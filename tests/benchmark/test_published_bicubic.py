"""Bicubic upscaling of the benchmark sets, beside published figures."""

from __future__ import annotations

import os

import pytest

from mvmsr.benchmark.evaluate import evaluate
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.methods import Bicubic
from mvmsr.metrics import Psnr, Ssim, make_protocol

pytestmark = pytest.mark.data


def load(name: str) -> ImageSet:
    if not os.environ.get("MVMSR_DATA_ROOT"):
        pytest.skip("no benchmark pictures; set MVMSR_DATA_ROOT to the folder that holds Set5 and the others")
    return load_image_set(name, os.environ["MVMSR_DATA_ROOT"], scale=4)


@pytest.mark.parametrize(
    ("set_name", "protocol", "psnr", "ssim"),
    [
        ("Set5", "y", 28.4189, 0.8102),
        ("Set5", "y_float", 28.4314, 0.8113),
        ("Set5", "y_only", 28.4207, 0.8104),  # published: 28.42 / 0.8104
        ("Set5", "rgb", 26.696, 0.7734),
        ("Set5", "rgb_zero_pad", 26.703, 0.7805),
        ("Set14", "y", 26.0874, 0.7042),
        ("Set14", "y_only", 26.0001, 0.7019),  # published: 26.00 / 0.7027
        pytest.param("BSD100", "y", 25.9579, 0.6674, marks=pytest.mark.slow),
        pytest.param("BSD100", "y_only", 25.9606, 0.6674, marks=pytest.mark.slow),  # published: 25.96 / 0.6675
    ],
)
def test_bicubic(set_name: str, protocol: str, psnr: float, ssim: float) -> None:
    scores = evaluate(Bicubic(4), load(set_name), {"psnr": Psnr(), "ssim": Ssim()}, make_protocol(protocol, 4))
    assert [score.error for score in scores] == [None] * len(scores)
    means = {key: sum(score.scores[key] for score in scores) / len(scores) for key in ("psnr", "ssim")}
    assert means["psnr"] == pytest.approx(psnr, abs=0.001)
    assert means["ssim"] == pytest.approx(ssim, abs=1e-4)
