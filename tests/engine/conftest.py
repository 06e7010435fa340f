"""The pictures that tiny runs are trained on, and a quiet machine to train them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mvmsr.data.image_io import write_rgb


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six noisy pictures, 64 x 64."""
    folder = tmp_path_factory.mktemp("engine") / "pictures"
    for number in range(6):
        rng = np.random.default_rng(number)
        ramp = np.linspace(0, 160, 64)[:, None, None] * rng.random(3) + rng.integers(0, 96, (64, 64, 3))
        write_rgb(folder / f"p{number}.png", ramp.astype(np.uint8))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def console() -> Console:
    """Where progress goes that nobody looks at."""
    return Console(file=io.StringIO())
