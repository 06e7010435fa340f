"""An options file given to the wrong command is told so in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mvmsr.config import OptionsError, load
from mvmsr.config.kinds import command_of
from mvmsr.config.nmd_options import load_nmd

OPTIONS = Path(__file__).parents[2] / "options"


@pytest.mark.parametrize("loader", [load, load_nmd])
def test_options_of_a_benchmark(loader: Callable[[Path], object]) -> None:
    path = OPTIONS / "test/benchmark_x4.yml"
    with pytest.raises(OptionsError, match="these are options of `mvmsr test`") as caught:
        loader(path)
    assert str(caught.value).endswith(f"use `mvmsr test -opt {path}`")


def test_options_of_the_other_training() -> None:
    with pytest.raises(OptionsError, match="these are options of `mvmsr train-nmd`, not of `mvmsr train`"):
        load(OPTIONS / "train/nmd.yml")
    with pytest.raises(OptionsError, match="these are options of `mvmsr train`, not of `mvmsr train-nmd`"):
        load_nmd(OPTIONS / "train/mvm_srresnet_x4_cpu.yml")


def test_basicsrs_options() -> None:
    of_a_test = {"model_type": "SRModel", "network_g": {}, "datasets": {"test_1": {"dataroot_gt": "Set5"}}}
    assert command_of(of_a_test) == "test"
    assert command_of({**of_a_test, "train": {}}) == "train"


def test_too_little_to_tell() -> None:
    assert command_of({}) is None
    assert command_of({"name": "x", "network_g": {}}) is None
    assert command_of({"name": "x", "train": {"total_iter": 5}}) is None  # of either training


def test_a_task_that_is_none_changes_nothing() -> None:
    assert command_of({"task": "sr", "train": {}, "network_g": {}}) == "train"
