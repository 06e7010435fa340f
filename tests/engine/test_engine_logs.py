"""Means and records by hand, and what a crash leaves of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import tensor

from mvmsr.engine import logs
from mvmsr.engine.logs import RunningMeans, StatsLog, read_stats


def test_means_by_hand() -> None:
    means = RunningMeans()
    assert means.take() == {}
    means.add({"a": tensor(1.0), "b": tensor(10.0)})
    means.add({"a": tensor(2.0)})
    means.add({"a": tensor(6.0), "b": tensor(-4.0)})
    assert means.take() == {"a": 3.0, "b": 3.0}
    assert means.take() == {}
    means.add({"a": tensor(5.0)})
    assert means.take() == {"a": 5.0}


def test_means_need_no_graph_and_lose_no_digits() -> None:
    means = RunningMeans()
    value = torch.ones((), requires_grad=True) * 1.0
    means.add({"a": value})
    assert not means.state_dict()["sums"]["a"].requires_grad
    for _ in range(3):
        means.add({"a": tensor(1e-9)})
    assert means.take()["a"] == pytest.approx((1 + 3e-9) / 4, rel=1e-12)


def test_means_go_on_from_a_state() -> None:
    whole, first, second = RunningMeans(), RunningMeans(), RunningMeans()
    observations = [{"a": tensor(0.1)}, {"a": tensor(0.2), "b": tensor(1.0)}, {"a": tensor(0.3)}]
    for observation in observations:
        whole.add(observation)
    for observation in observations[:2]:
        first.add(observation)
    state = first.state_dict()
    first.add(observations[2])  # the state is a copy
    second.load_state_dict(state, torch.device("cpu"))
    second.add(observations[2])
    assert second.take() == first.take() == whole.take()


def test_records_are_on_disk_at_once(tmp_path: Path) -> None:
    log = StatsLog(tmp_path, 0, tensorboard=False)
    log.write(3, {"loss_g/pixel": 0.5, "lr/generator": 1e-4})
    assert read_stats(tmp_path / "stats.jsonl") == [{"iter": 3, "loss_g/pixel": 0.5, "lr/generator": 1e-4}]
    log.sync()
    log.close()


@pytest.mark.parametrize(
    ("start", "kept"), [(0, []), (5, [2, 4]), (4, [2, 4]), (6, [2, 4, 6, 6]), (9, [2, 4, 6, 6, 8])]
)
def test_a_continued_run_takes_back_what_it_will_write_again(start: int, kept: list[int], tmp_path: Path) -> None:
    log = StatsLog(tmp_path, 0, tensorboard=False)
    for iteration in (2, 4, 6, 6, 8):  # two at 6: a report and a validation
        log.write(iteration, {"a": iteration / 3})
    log.close()
    log = StatsLog(tmp_path, start, tensorboard=False)
    log.write(start + 1, {"a": 0.0})
    log.close()
    records = read_stats(tmp_path / "stats.jsonl")
    assert [r["iter"] for r in records] == [*kept, start + 1]
    assert all(r["a"] == r["iter"] / 3 for r in records[:-1])
    assert list(tmp_path.iterdir()) == [tmp_path / "stats.jsonl"]


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_last_line_cut_off_by_a_crash(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    text = "".join(json.dumps({"iter": i, "a": 0.5}) + "\n" for i in (1, 2, 3))
    path.write_text(text[:-cut])
    expected = [1, 2, 3] if cut == 1 else [1, 2]
    assert [r["iter"] for r in read_stats(path)] == expected
    log = StatsLog(tmp_path, 3, tensorboard=False)
    log.write(4, {"a": 1.0})
    log.close()
    assert [r["iter"] for r in read_stats(path)] == [*expected, 4]


@pytest.mark.parametrize("damage", [b'{"iter": 2, "a', b"\xff\x00", b"[2]", b'{"a": 0.5}', b""])
def test_a_damaged_line_takes_no_other_with_it(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_bytes(b'{"iter": 1}\n' + damage + b'\n{"iter": 3}\n')
    log = StatsLog(tmp_path, 3, tensorboard=False)
    log.write(4, {})
    log.close()
    assert [r["iter"] for r in read_stats(path)] == [1, 3, 4]


def test_no_statistics_are_no_records(tmp_path: Path) -> None:
    assert read_stats(tmp_path / "stats.jsonl") == []


def test_numbers_survive_to_the_last_bit(tmp_path: Path) -> None:
    values = {"a": 0.1 + 0.2, "b": 1e-320, "c": 1 / 3}
    log = StatsLog(tmp_path, 0, tensorboard=False)
    log.write(1, values)
    log.close()
    assert read_stats(tmp_path / "stats.jsonl") == [{"iter": 1, **values}]


def test_tensorboard_mirrors_and_forgets_what_is_taken_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, iterations in ((0, (1, 2, 3)), (2, (3, 4))):
        log = StatsLog(tmp_path, start, tensorboard=True)
        for iteration in iterations:
            log.write(iteration, {"loss_g/pixel": start + iteration / 10})
        log.sync()
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    seen = [(e.step, round(e.value, 3)) for e in events.Scalars("loss_g/pixel")]
    assert seen == [(1, 0.1), (2, 0.2), (3, 2.3), (4, 2.4)]


@pytest.mark.parametrize("start", [0, 2])
def test_tensorboard_shows_what_the_records_hold(start: int, tmp_path: Path) -> None:
    """Also where the run begins again at its beginning, for want of a checkpoint."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, value in ((0, 1.0), (start, 2.0)):
        log = StatsLog(tmp_path, begin, tensorboard=True)
        for iteration in range(begin + 1, 5 - int(value)):
            log.write(iteration, {"loss_g/pixel": value})
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    records = [(record["iter"], record["loss_g/pixel"]) for record in read_stats(tmp_path / "stats.jsonl")]
    assert [(e.step, e.value) for e in events.Scalars("loss_g/pixel")] == records


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("cuda", torch.float64), ("mps", torch.float32)])
def test_sums_are_as_exact_as_the_device_allows(device: str, dtype: torch.dtype) -> None:
    assert logs._widest(torch.device(device)) == dtype
