"""A resume that is exact is said to be, and one that is not is described by what differs first."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tiny_options

from mvmsr.config import TrainOptions
from mvmsr.engine.checkpoint import load_checkpoint, save_checkpoint
from mvmsr.engine.compare_states import record_differences, state_differences
from mvmsr.engine.loop import train
from mvmsr.engine.rehearsal import SetupError
from mvmsr.engine.verify_resume import choose_span, verify_resume


def _options(folder: Path, pictures: Path, changes: dict[str, Any] | None = None) -> TrainOptions:
    base = {"train.ema_decay": 0.9, "logger.print_freq": 2, "logger.save_checkpoint_freq": 4}
    return tiny_options(folder, pictures, "GDM", {**base, **(changes or {})})


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten iterations with checkpoints of 4, 8 and 10."""
    return train(_options(tmp_path_factory.mktemp("finished"), pictures)).root


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(finished, tmp_path / "tiny"))


def test_an_exact_resume(run: Path, pictures: Path, tmp_path: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    verdict = verify_resume(_options(tmp_path, pictures), 5)
    assert verdict.is_exact
    assert (verdict.start, verdict.end) == (4, 9)
    (text,) = verdict.lines()
    assert text.startswith("The resume is exact: 5 iterations from checkpoint 00000004 to iteration 9 agree with 2 rec")
    assert text.endswith("and checkpoint 00000008, bit for bit.")
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before


def test_a_single_checkpoint_is_replayed_twice(run: Path, pictures: Path, tmp_path: Path) -> None:
    for name in ("00000008", "00000010"):
        shutil.rmtree(run / "checkpoints" / name)
    (run / "stats.jsonl").unlink()
    verdict = verify_resume(_options(tmp_path, pictures), 2)
    assert verdict.is_exact
    assert (verdict.start, verdict.end, verdict.compared) == (4, 6, ("a second replay",))


def test_a_record_that_was_another(run: Path, pictures: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    (changed,) = [r for r in records if r["iter"] == 6]
    changed["loss_m/triplet"] += 1e-12
    (run / "stats.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    verdict = verify_resume(_options(tmp_path, pictures), 4)
    assert not verdict.is_exact
    assert [d.split(":")[0] for d in verdict.differences] == ["iteration 6, loss_m/triplet"]
    assert verdict.repeats
    assert "this machine is exact in itself" in "\n".join(verdict.lines())


def test_a_state_that_was_another(run: Path, pictures: Path, tmp_path: Path) -> None:
    """A forgotten moment of one optimizer shows in the network that it steps."""
    state = load_checkpoint(run / "checkpoints" / "00000008")
    state["optimizers"]["metric_net"]["state"][0]["exp_avg"].zero_()
    save_checkpoint(run / "checkpoints", 8, state)
    verdict = verify_resume(_options(tmp_path, pictures), 2)
    assert (verdict.start, verdict.end) == (8, 10)
    assert verdict.differences[0].startswith("iteration 10, ")
    assert any(d.startswith("at 10.networks.metric_net.") for d in verdict.differences)
    assert not any(d.startswith("at 10.rng") for d in verdict.differences)


def test_other_options_are_said(run: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        verdict = verify_resume(_options(tmp_path, pictures, {"train.pair_opt.loss_weight": 0.02}), 2)
    assert not verdict.is_exact
    assert "train.pair_opt.loss_weight: 0.01 -> 0.02" in caplog.text


def test_what_does_not_repeat(run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mvmsr.engine import verify_resume as module

    iterate = module.run_iteration

    def noisy(experiment: Any, parts: Any) -> Any:
        result = iterate(experiment, parts)
        bias = experiment.modules["generator"].conv_last.bias
        bias.data += 1e-6 * torch.rand(3, generator=torch.Generator().manual_seed(torch.seed() % 2**31))
        return result

    monkeypatch.setattr(module, "run_iteration", noisy)
    verdict = verify_resume(_options(tmp_path, pictures), 2)
    assert verdict.repeats is False
    assert "not repeatable here" in "\n".join(verdict.lines())


@pytest.mark.parametrize(
    ("checkpoints", "logged", "steps", "expected"),
    [
        ([4, 8, 12], 12, 3, (8, 11)),
        ([4, 8, 12], 15, 3, (12, 15)),
        ([4, 8], 8, 20, (8, 28)),
        ([4, 8], 10, 5, (4, 9)),
        ([95, 100], 100, 20, (95, 100)),
    ],
)
def test_where_to_start(checkpoints: list[int], logged: int, steps: int, expected: tuple[int, int]) -> None:
    assert choose_span(checkpoints, logged, steps, 100) == expected


@pytest.mark.parametrize(("checkpoints", "text"), [([], "the run has none"), ([100], "only the one of its last")])
def test_nowhere_to_start(checkpoints: list[int], text: str) -> None:
    with pytest.raises(SetupError, match=text):
        choose_span(checkpoints, 100, 5, 100)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": torch.tensor([1.0, 2.0])}, {"x": torch.tensor([1.0, 2.5])}, ["s.x: 1 of 2 values differ, by up to 0.5"]),
        ({"x": torch.tensor([0.0])}, {"x": torch.tensor([-0.0])}, ["s.x: 0 of 1 values differ, by up to 0"]),
        ({"x": torch.tensor([float("nan")])}, {"x": torch.tensor([float("nan")])}, []),
        ({"x": torch.zeros(2)}, {"x": torch.zeros(3)}, ["s.x: torch.float32 (2,) and torch.float32 (3,)"]),
        ({"x": torch.tensor([1, 2])}, {"x": torch.tensor([3, 4])}, ["s.x: 2 of 2 values differ"]),
        ({"x": torch.tensor(True)}, {"x": torch.tensor(True)}, []),
        ({"x": 1}, {"y": 1}, ["s.x: only the first has it", "s.y: only the second has it"]),
        ({"x": [1, 2]}, {"x": [1, 3, 4]}, ["s.x: 2 and 3 items", "s.x[1]: 2 and 3"]),
        ({"x": 1}, {"x": 1.0}, ["s.x: 1 and 1.0"]),
        ({"x": None, "y": "a"}, {"x": None, "y": "a"}, []),
    ],
)
def test_differences_of_states(a: Any, b: Any, expected: list[str]) -> None:
    assert list(state_differences(a, b, "s")) == expected


def test_differences_of_records() -> None:
    a = [{"iter": 2, "loss": 0.5, "step_seconds": 1.0}, {"iter": 4, "loss": 0.25}]
    assert list(record_differences(a, [{**a[0], "step_seconds": 2.0}, a[1]])) == []
    assert list(record_differences(a, [a[0], {"iter": 4, "loss": 0.5}])) == ["iteration 4, loss: 0.25 and 0.5"]
    assert list(record_differences(a, [a[0], {"iter": 5}])) == ["a record of iteration 4 beside one of iteration 5"]
    assert list(record_differences(a, a[:1])) == ["2 and 1 records"]
