"""A NaN is written down, and a run that may goes back to its checkpoint and on with other pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_runs import assert_same_runs, final_state, tiny_options
from torch import Tensor

from mvmsr.config import TrainOptions
from mvmsr.data.image_io import read_rgb
from mvmsr.engine import loop
from mvmsr.engine.build import build, build_batches
from mvmsr.engine.checkpoint import list_checkpoints
from mvmsr.engine.finite_state import non_finite_state, require_finite_state
from mvmsr.engine.guard import NonFiniteLossError
from mvmsr.engine.iteration import run_iteration
from mvmsr.engine.loop import train
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES

BAD: set[float] = set()
"""Brightness (the mean of the ground truth) of the batches that give NaN: a property of the pictures, as in life."""


class SpoiltByPictures(Term):
    """The mean of the result, or not-a-number on certain pictures."""

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        return sr.mean() * (float("nan") if _brightness(gt) in BAD else 1.0)


def _brightness(gt: Tensor) -> float:
    return round(float(gt.double().mean()), 9)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    LOSSES.register()(SpoiltByPictures)
    yield
    del LOSSES._entries["SpoiltByPictures"]
    BAD.clear()


def _options(folder: Path, pictures: Path, rollbacks: int) -> TrainOptions:
    changes: dict[str, Any] = {
        "train.spoilt_opt": {"type": "SpoiltByPictures", "loss_weight": 0.01},
        "train.max_rollbacks": rollbacks,
        "train.ema_decay": 0.9,
        "logger.save_checkpoint_freq": 3,
        "logger.print_freq": 1,
    }
    return tiny_options(folder, pictures, "GM", changes)


def _spoil(pictures: Path, tmp_path: Path, *numbers: int) -> None:
    """Let the batches of these numbers give NaN."""
    batches = build_batches(_options(tmp_path / "look", pictures, 0))
    for number in numbers:
        BAD.add(_brightness(batches.batch(number).gt.float() * (1 / 255)))


def _batches_seen(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    seen: list[tuple[str, ...]] = []
    iterate = loop.run_iteration

    def watched(experiment: Any, parts: Any) -> Any:
        seen.append(parts[0].names)
        return iterate(experiment, parts)

    monkeypatch.setattr(loop, "run_iteration", watched)
    return seen


def test_the_batch_is_written_down(pictures: Path, tmp_path: Path, console: Console) -> None:
    _spoil(pictures, tmp_path, 4)
    with pytest.raises(NonFiniteLossError) as caught:
        train(_options(tmp_path, pictures, 0), console=console)
    folder = tmp_path / "tiny" / "nonfinite" / "00000005_generator"
    assert f"Its images are in {folder}. To go back" in str(caught.value)
    assert "--auto-resume --set train.max_rollbacks=3" in str(caught.value)
    about = json.loads((folder / "process0.json").read_text())
    assert (about["iteration"], about["network"]) == (5, "generator")
    assert about["values"] == {"spoilt": "nan", "gradient norm": "nan"}
    assert about["state"] == "all weights, averages and optimizer states are finite"
    batch = build_batches(_options(tmp_path / "look", pictures, 0)).batch(4)
    assert about["batches"] == [{"number": 4, "pictures": batch.names}]
    for k in range(2):
        for kind, expected in (("lq", batch.lq), ("gt", batch.gt)):
            assert torch.equal(torch.from_numpy(read_rgb(folder / f"4_0_{k}_{kind}.png")).permute(2, 0, 1), expected[k])


def test_going_back_leaves_the_batches_since_the_checkpoint_out(
    pictures: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _spoil(pictures, tmp_path, 4)  # of the fifth iteration; the checkpoint is the third's
    seen = _batches_seen(tmp_path, monkeypatch)
    run = train(_options(tmp_path, pictures, 1), console=console).root
    batches = build_batches(_options(tmp_path / "look", pictures, 0))
    numbers = [0, 1, 2, 3, 4, *range(5, 12)]  # after the bad one the fourth iteration is made again, with number 5
    assert seen == [tuple(batches.batch(n).names) for n in numbers]
    assert "Going back to" in caplog.text
    assert "00000003 and continuing with other images (1 of 1 times)" in caplog.text
    state = final_state(run)
    assert state["iteration"] == 10
    assert state["detour"] == {"rollbacks": 1, "batches": 2}
    iterations = [json.loads(line)["iter"] for line in (run / "stats.jsonl").read_text().splitlines()]
    assert iterations == list(range(1, 11))


@pytest.mark.parametrize("killed_in", [4, 5, 8])
def test_a_kill_on_the_detour_changes_nothing(killed_in: int, pictures: Path, tmp_path: Path, console: Console) -> None:
    """Killed in the fourth iteration made again, in the fifth, and after the next checkpoint."""
    _spoil(pictures, tmp_path, 4)
    whole = train(_options(tmp_path / "whole", pictures, 1), console=console).root
    iterate, went_back = loop.run_iteration, []

    def deadly(experiment: Any, parts: Any) -> Any:
        if experiment.iteration + 1 == killed_in and went_back:
            raise KeyboardInterrupt
        try:
            return iterate(experiment, parts)
        except NonFiniteLossError:
            went_back.append(True)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run_iteration", deadly)
        with pytest.raises(KeyboardInterrupt):
            train(_options(tmp_path / "killed", pictures, 1), console=console)
    killed = train(_options(tmp_path / "killed", pictures, 1), auto_resume=True, console=console).root
    assert_same_runs(whole, killed)


def test_a_run_goes_back_so_often_and_no_more(pictures: Path, tmp_path: Path, console: Console) -> None:
    _spoil(pictures, tmp_path, 4, 6, 8)
    with pytest.raises(NonFiniteLossError, match=r"iteration 5: .*The run went back 2 times already") as caught:
        train(_options(tmp_path, pictures, 2), console=console)
    assert caught.value.iteration == 5
    assert [p.name for p in list_checkpoints(tmp_path / "tiny" / "checkpoints")] == ["00000003"]
    run = train(_options(tmp_path, pictures, 3), auto_resume=True, console=console).root
    assert final_state(run)["detour"] == {"rollbacks": 3, "batches": 6}


@pytest.mark.parametrize("limit", [0, 2])
def test_without_a_checkpoint_there_is_nowhere_to_go(
    pictures: Path, tmp_path: Path, console: Console, limit: int
) -> None:
    _spoil(pictures, tmp_path, 1)
    message = r"iteration 2: .*There is no checkpoint yet to go back to; lower the learning rate"
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        train(_options(tmp_path, pictures, limit), console=console)
    assert "--auto-resume" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("weight", "conv_last.bias of the generator"),
        ("running mean", r"body\.0\.1?.*running_mean of the|running_mean of the"),
        ("average", "conv_last.bias of the averaged generator"),
        ("moment", r"the optimizer's exp_avg of conv_last.bias of the generator"),
    ],
)
def test_what_is_not_finite_is_not_saved(
    where: str, message: str, value: float, pictures: Path, tmp_path: Path
) -> None:
    from tiny_runs import random_images

    experiment = build(_options(tmp_path, pictures, 0))
    run_iteration(experiment, [random_images()])
    assert non_finite_state(experiment) is None
    generator: Any = experiment.modules["generator"]
    assert experiment.ema is not None
    tensor = {
        "weight": generator.conv_last.bias.data,
        "running mean": next(b for n, b in generator.named_buffers() if n.endswith("running_mean")),
        "average": experiment.ema.conv_last.bias.data,  # type: ignore[union-attr]
        "moment": experiment.players["generator"].optimizer.state[generator.conv_last.bias]["exp_avg"],
    }[where]
    tensor[1] = value
    with pytest.raises(NonFiniteLossError, match=message):
        require_finite_state(experiment)


def test_weights_that_break_between_losses_make_no_checkpoint(
    pictures: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterate = loop.run_iteration

    def breaking(experiment: Any, parts: Any) -> Any:
        result = iterate(experiment, parts)
        if experiment.iteration == 6:
            next(iter(experiment.modules["metric_net"].parameters())).data.view(-1)[0] = float("inf")
        return result

    monkeypatch.setattr(loop, "run_iteration", breaking)
    with pytest.raises(NonFiniteLossError, match=r"after iteration 6 .* of the metric_net holds values that are not"):
        train(_options(tmp_path, pictures, 0), console=console)
    assert [p.name for p in list_checkpoints(tmp_path / "tiny" / "checkpoints")] == ["00000003"]
