"""What a dry run times is what most of the run will be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_runs import tiny_options

from mvmsr.engine import dry_run
from mvmsr.engine.build import Experiment
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.step import Images, Step
from mvmsr.engine.updates import Values


@pytest.mark.parametrize(
    ("networks", "changes", "trained"),
    [
        ("GM", {"train.match_after_iter": 4}, [["loss_g/manifold", "loss_g/pair", "loss_g/pixel"]] * 2),
        ("GD", {"train.net_d_init_iters": 5}, [["loss_g/gan", "loss_g/pixel"]] * 2),
        ("GD", {"train.net_d_iters": 3, "train.net_d_init_iters": 4}, [["loss_g/gan", "loss_g/pixel"], []] * 2),
    ],
)
def test_the_generator_is_trained_as_in_most_of_the_run(
    networks: str,
    changes: dict[str, Any],
    trained: list[list[str]],
    pictures: Path,
    tmp_path: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []

    def look(experiment: Experiment, parts: Sequence[Images]) -> tuple[Values, Step]:
        values, step = run_iteration(experiment, parts)
        seen.append(sorted(name for name in values if name.startswith("loss_g/")))
        return values, step

    monkeypatch.setattr(dry_run, "run_iteration", look)
    dry_run.dry_run(tiny_options(tmp_path, pictures, networks, changes), console)
    assert seen == trained
