"""The weights that come with the package: complete, small enough, and as good as their cards say."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mvmsr import Upscaler
from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.inference.model_card import CARD, card_of, is_default
from mvmsr.inference.weights import BUILTIN_DIR, builtin_names, default_model, load_generator, read_info
from mvmsr.metrics.build import build_metrics
from mvmsr.metrics.protocol import make_protocol

NAMES = ("fast", "mvm", "psnr")


def test_they_are_there_and_small() -> None:
    assert tuple(sorted(builtin_names())) == NAMES
    assert sum(file.stat().st_size for file in BUILTIN_DIR.iterdir()) < 12e6
    assert default_model() == "mvm"


@pytest.mark.parametrize("name", NAMES)
def test_their_cards_are_complete(name: str) -> None:
    info = read_info(BUILTIN_DIR / f"{name}.safetensors")
    assert [key for key in CARD if not card_of(info).get(key)] == ([] if is_default(info) else ["default"])
    assert info.scale == 4
    assert f"options/train/builtin_{name}.yml" in info.extra["trained_on"]


@pytest.mark.parametrize("name", NAMES)
def test_they_enlarge_a_picture_and_leave_flat_ones_alone(name: str) -> None:
    upscaler = Upscaler(name, device="cpu", precision="32")
    ramp = np.linspace(40, 200, 24).round().astype(np.uint8)[None, :, None].repeat(17, 0).repeat(3, 2)
    for lq in (ramp, np.full_like(ramp, 128)):
        sr = upscaler.upscale_array(lq)
        assert sr.shape == (68, 96, 3)
        # Bicubic enlargement is right for both; away from the border a good network is near it.
        bicubic = Upscaler("bicubic").upscale_array(lq)
        assert np.abs(sr.astype(int) - bicubic)[8:-8, 8:-8].max() <= 4


def test_other_programs_can_load_the_quick_one() -> None:
    spandrel = pytest.importorskip("spandrel")
    descriptor = spandrel.ModelLoader(device="cpu").load_from_file(BUILTIN_DIR / "fast.safetensors")
    assert (descriptor.architecture.name, descriptor.scale) == ("RealESRGAN Compact", 4)
    lq = torch.rand(1, 3, 13, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load_generator(BUILTIN_DIR / "fast.safetensors")[0](lq).clamp(0, 1)
        theirs = descriptor.model.float()(lq).clamp(0, 1)
    assert float((ours - theirs).abs().max()) < 1e-4


@pytest.mark.data
@pytest.mark.parametrize("name", NAMES)
def test_their_scores_are_those_of_their_cards(name: str) -> None:
    root = Path(os.environ.get("MVMSR_DATA_ROOT", "datasets"))
    if not (root / "Set5").is_dir():
        pytest.skip(f"Set5 is not in {root}; set MVMSR_DATA_ROOT, or run: mvmsr datasets prepare Set5")
    told = re.search(r"Set5 (\d+\.\d+) / (0\.\d+)", read_info(BUILTIN_DIR / f"{name}.safetensors").extra["scores"])
    assert told, "the card's scores do not begin with those of Set5"
    upscaler = Upscaler(name, device="cpu")
    metrics, _ = build_metrics(["psnr", "ssim"])
    protocol, found = make_protocol("y", 4), []
    image_set = load_image_set("Set5", root, 4)
    for pair in image_set.pairs:
        lq, gt = image_set.load(pair)
        sr = upscaler.upscale_array(lq)
        found.append([float(metric(sr, gt, protocol)) for metric in metrics.values()])
    psnr, ssim = np.mean(found, axis=0)
    assert abs(psnr - float(told[1])) < 0.02
    assert abs(ssim - float(told[2])) < 0.001
