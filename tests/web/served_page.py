"""What the tests of the page share: its limits, pictures of noise, the process that serves it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAX_PIXELS = 40_000
MAX_UPLOAD = 2**20
WAITING = 2


@dataclass
class Served:
    """A page, the process that serves it, what that has printed, and the folder that it writes to."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str]
    folder: Path


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
