"""A small valid options file to be spoilt in many ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mvmsr.config import TrainOptions, load

SMALL = """\
name: small
scale: 4
datasets:
  train: {dataroot_gt: pictures, gt_size: 32, batch_size_per_gpu: 2}
  val: {name: Set5}
network_g:
  type: SRResNet
  num_feat: 8
train:
  total_iter: 10
  optim_g: {type: Adam, lr: 1e-4, betas: [0.9, 0.99]}
  pixel_opt: {type: L1Loss}
"""


@pytest.fixture(scope="session")
def small() -> str:
    """The text of a valid options file."""
    return SMALL


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., TrainOptions]:
    """Writes a text to `options.yml` and loads it with overrides."""

    def write_and_load(*overrides: str, text: str = SMALL) -> TrainOptions:
        path = tmp_path / "options.yml"
        path.write_text(text, encoding="utf-8")
        return load(path, overrides)

    return write_and_load
