"""Small made pictures for the tests of the data room."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """A function that makes an (H, W, 3) uint8 picture: smooth colours with fine texture, different for each seed."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        smooth = imresize(rng.random((max(height // 8, 2), max(width // 8, 2), 3)), output_size=(height, width))
        return (np.clip(smooth * 0.8 + rng.random((height, width, 3)) * 0.2, 0, 1) * 255).astype(np.uint8)

    return make


@pytest.fixture
def made_set(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """A function that writes a folder of pictures and returns it."""

    def make(name: str = "set", count: int = 5, sides: tuple[int, int] = (48, 56)) -> Path:
        for number in range(count):
            write_rgb(tmp_path / name / f"img{number + 1}.png", picture(*sides, seed=number))
        return tmp_path / name

    return make


@pytest.fixture
def benchmark_sets() -> Path:
    """The folder with Set5 and the other benchmark sets."""
    root = os.environ.get("MVMSR_DATA_ROOT")
    if not root or not (Path(root) / "Set5").is_dir():
        pytest.skip("MVMSR_DATA_ROOT does not name a folder with Set5")
    return Path(root)
