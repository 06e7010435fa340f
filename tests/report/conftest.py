from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_records import OPTIONS

from mvmsr.data.image_io import write_rgb


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run directory: `make_run(name, records=..., options=..., tail=...)`; None leaves a file out."""

    def make(
        name: str = "mvm",
        records: list[dict[str, Any]] | None = None,
        options: str | None = OPTIONS,
        tail: str = "",
    ) -> Path:
        root = tmp_path / "experiments" / name
        root.mkdir(parents=True)
        if options is not None:
            (root / "options.yml").write_text(options.replace("NAME", name), encoding="utf-8")
        if records is not None:
            (root / "stats.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + tail, encoding="utf-8")
        return root

    return make


@pytest.fixture
def add_sample() -> Callable[..., np.ndarray]:
    """Writes `samples/00000020_Set5_bird.png` as validation does and returns the strip (8, 24, 3)."""

    def add(run: Path, iteration: int, name: str = "Set5_bird", sr: int = 100, gt: int = 200) -> np.ndarray:
        parts = [np.full((8, 8, 3), value, np.uint8) for value in (50, sr, gt)]
        strip = np.concatenate(parts, axis=1)
        (run / "samples").mkdir(exist_ok=True)
        write_rgb(run / "samples" / f"{iteration:08d}_{name}.png", strip)
        return strip

    return add
