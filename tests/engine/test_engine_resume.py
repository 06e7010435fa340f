"""Five iterations and five more in a run that forgot everything else are the ten of an uninterrupted run."""

from __future__ import annotations

import itertools
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from tiny_runs import assert_same_runs, comparable_stats, final_state, tiny_options

from mvmsr.engine.checkpoint import CheckpointError, checkpoint_dir, latest_checkpoint
from mvmsr.engine.loop import train
from mvmsr.engine.run_dir import RunExistsError


@pytest.mark.parametrize(
    ("networks", "update"), list(itertools.product(("G", "GM", "GD", "GDM"), ("alternating", "simultaneous")))
)
def test_five_and_five_are_ten(networks: str, update: str, pictures: Path, tmp_path: Path, console: Console) -> None:
    changes: dict[str, Any] = {"train.update": update}
    if "M" in networks:
        changes["train.ema_decay"] = 0.9
    if networks == "GD":
        changes |= {"train.accumulate": 2, "datasets.train.type": "RealESRGANDataset"}
    if networks == "GDM":
        changes["datasets.train.type"] = "DegradedImageDataset"
    if networks == "G":
        changes["datasets.val"] = {"name": "made", "dataroot_gt": str(pictures)}
        changes["val"] = {"val_freq": 5, "metrics": ["psnr"], "samples": 1}
    whole = train(tiny_options(tmp_path / "whole", pictures, networks, changes), console=console).root
    # What a run that was killed just before its end leaves: statistics to the ninth iteration, a checkpoint of the
    # fifth. As 3 does not divide 5, means of the fourth and fifth are half-way to their report.
    broken = tmp_path / "broken" / "tiny"
    shutil.copytree(whole, broken)
    shutil.rmtree(checkpoint_dir(broken / "checkpoints", 10))

    train(tiny_options(tmp_path / "broken", pictures, networks, changes), auto_resume=True, console=console)

    assert final_state(broken)["iteration"] == 10
    losses = [r["iter"] for r in comparable_stats(broken) if "loss_g/pixel" in r]
    assert losses == [3, 6, 9, 10]
    assert_same_runs(whole, broken)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiments folder of a generator's four iterations."""
    root = tmp_path_factory.mktemp("finished")
    train(tiny_options(root, pictures, changes={"train.total_iter": 4}))
    return root


def test_a_run_is_not_overwritten(finished: Path, pictures: Path) -> None:
    with pytest.raises(RunExistsError, match="tiny exists already; --auto-resume continues it"):
        train(tiny_options(finished, pictures, changes={"train.total_iter": 4}))


def test_a_finished_run_is_not_trained_again(finished: Path, pictures: Path, console: Console) -> None:
    before = (finished / "tiny" / "stats.jsonl").read_text()
    train(tiny_options(finished, pictures, changes={"train.total_iter": 4}), auto_resume=True, console=console)
    assert (finished / "tiny" / "stats.jsonl").read_text() == before


def test_a_run_is_continued_without_the_weights_that_it_began_with(
    finished: Path, pictures: Path, tmp_path: Path, console: Console
) -> None:
    weights = shutil.copy(next((finished / "tiny" / "weights").glob("*.safetensors")), tmp_path / "first.safetensors")
    begun: dict[str, Any] = {"path.pretrain_network_g": str(weights), "train.total_iter": 2}
    train(tiny_options(tmp_path, pictures, changes=begun), console=console)
    Path(weights).unlink()
    run = train(tiny_options(tmp_path, pictures, changes={**begun, "train.total_iter": 3}), True, console=console)
    assert final_state(run.root)["iteration"] == 3


def test_auto_resume_of_nothing_begins(pictures: Path, tmp_path: Path, console: Console) -> None:
    changes = {"train.total_iter": 1}
    run = train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    assert [r["iter"] for r in comparable_stats(run.root)] == [1]
    assert yaml.safe_load((run.root / "options.yml").read_text())["train"]["total_iter"] == 1


def test_other_networks_are_refused(finished: Path, pictures: Path, tmp_path: Path, console: Console) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    other = {"network_g": {"type": "MSRResNet", "num_feat": 4, "num_block": 1}}
    with pytest.raises(CheckpointError, match=r"holds .*SRResNet.*but the options describe .*MSRResNet"):
        train(tiny_options(tmp_path, pictures, changes=other), auto_resume=True, console=console)


def test_other_sizes_are_refused(finished: Path, pictures: Path, tmp_path: Path, console: Console) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    recorded = (tmp_path / "tiny" / "options.yml").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"generator does not fit the options' SRResNet: \d+ of \d+ entries differ"
    ):
        train(tiny_options(tmp_path, pictures, changes={"network_g.num_feat": 4}), auto_resume=True, console=console)
    assert (tmp_path / "tiny" / "options.yml").read_bytes() == recorded, "nothing was trained with these options"


def test_a_finished_run_keeps_its_record(finished: Path, pictures: Path, tmp_path: Path, console: Console) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    recorded = (tmp_path / "tiny" / "options.yml").read_bytes()
    changes = {"train.total_iter": 4, "train.optim_g.lr": 0.25}
    train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    with pytest.raises(CheckpointError, match=r"at iteration 4, beyond train\.total_iter: 3, so nothing is left to do"):
        train(tiny_options(tmp_path, pictures, changes={"train.total_iter": 3}), auto_resume=True, console=console)
    assert (tmp_path / "tiny" / "options.yml").read_bytes() == recorded


def test_changed_options_are_said_and_learning_rates_obeyed(
    finished: Path, pictures: Path, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    changes = {"train.total_iter": 5, "train.scheduler": None, "train.optim_g.lr": 0.25, "train.ema_decay": 0.5}
    with caplog.at_level(logging.WARNING):
        train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    assert "train.optim_g.lr: 0.001 -> 0.25" in caplog.text
    assert comparable_stats(tmp_path / "tiny")[-1]["lr/generator"] == 0.25
    # Averaging that begins in the middle begins at the network.
    state = final_state(tmp_path / "tiny")
    before = final_state(finished / "tiny")["networks"]["generator"]["conv_last.bias"]
    after = state["networks"]["generator"]["conv_last.bias"]
    decay = 5 / 14  # of the fifth update, below 0.5
    expected = decay * before + (1 - decay) * after
    assert state["ema"]["conv_last.bias"].tolist() == pytest.approx(expected.tolist())


def test_settings_of_an_optimizer_are_obeyed(finished: Path, pictures: Path, tmp_path: Path, console: Console) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    changes = {"train.total_iter": 5, "train.optim_g.betas": [0.5, 0.6], "train.optim_g.weight_decay": 0.5}
    train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    optimizer = final_state(tmp_path / "tiny")["optimizers"]["generator"]
    group = optimizer["param_groups"][0]
    assert (tuple(group["betas"]), group["weight_decay"]) == ((0.5, 0.6), 0.5)
    assert {float(state["step"]) for state in optimizer["state"].values()} == {5.0}


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_another_optimizer_begins_without_moments(
    kind: str, finished: Path, pictures: Path, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    changes = {"train.total_iter": 5, "train.optim_g": {"type": kind, "lr": 1e-3}}
    with caplog.at_level(logging.WARNING):
        train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    assert f"The optimizer was Adam and is {kind}: its moments start from zero" in caplog.text
    state = final_state(tmp_path / "tiny")
    assert state["iteration"] == 5
    assert {float(v.get("step", 1)) for v in state["optimizers"]["generator"]["state"].values()} <= {1.0}


def test_half_the_batch_in_twice_the_parts_goes_on_with_the_same_pictures(
    pictures: Path, tmp_path: Path, console: Console
) -> None:
    changes: dict[str, Any] = {"network_g.bn": False, "train.optim_g": {"type": "SGD", "lr": 0.1}}
    whole = train(tiny_options(tmp_path / "whole", pictures, changes=changes), console=console).root
    shutil.copytree(whole, tmp_path / "tiny")
    shutil.rmtree(checkpoint_dir(tmp_path / "tiny" / "checkpoints", 10))
    changes |= {"datasets.train.batch_size_per_gpu": 1, "train.accumulate": 2}
    train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    expected, found = (final_state(run)["networks"]["generator"] for run in (whole, tmp_path / "tiny"))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_another_number_of_pictures_a_step_is_refused(
    finished: Path, pictures: Path, tmp_path: Path, console: Console
) -> None:
    shutil.copytree(finished / "tiny", tmp_path / "tiny")
    message = r"has steps of 2 images, but 2 parts of 2 on each of 1 process make 4; .*batch_size_per_gpu=1, or"
    with pytest.raises(CheckpointError, match=message):
        train(tiny_options(tmp_path, pictures, changes={"train.accumulate": 2}), auto_resume=True, console=console)


def test_checkpoints_that_are_written_after_a_damaged_one_stay(
    pictures: Path, tmp_path: Path, console: Console
) -> None:
    changes = {"logger.keep_last": 2}
    run = train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    state = checkpoint_dir(run.checkpoints, 10) / "state.pt"
    state.write_bytes(state.read_bytes()[:-1])
    changes = {"logger.keep_last": 1, "train.total_iter": 8}
    train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    found = latest_checkpoint(run.checkpoints)
    assert found is not None
    assert found[1]["iteration"] == 8
    assert run.weights.joinpath("tiny_g_00000008.safetensors").is_file()
