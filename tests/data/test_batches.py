from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mvmsr.data.batches import Batch, TrainBatches
from mvmsr.data.paired_dataset import PairedImageDataset


@pytest.fixture
def dataset(made_set) -> PairedImageDataset:
    root: Path = made_set(count=5, sides=(24, 28))
    return PairedImageDataset(str(root), gt_size=16, cache_dir=root.parent / "cache")


def same(one: Batch, two: Batch) -> bool:
    return (
        torch.equal(one.lq, two.lq) and torch.equal(one.gt, two.gt) and (one.names, one.index) == (two.names, two.index)
    )


def batch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mvmsr-batches"]


def test_shapes_and_types(dataset: PairedImageDataset):
    batch = TrainBatches(dataset, 3, seed=0).batch(7)
    assert batch.lq.shape == (3, 3, 4, 4)
    assert batch.gt.shape == (3, 3, 16, 16)
    assert batch.lq.dtype == batch.gt.dtype == torch.uint8
    assert batch.lq.is_contiguous()
    assert batch.gt.is_contiguous()
    assert batch.index == 7
    assert len(batch.names) == 3


def test_rows_are_the_crops_of_the_dataset(dataset: PairedImageDataset):
    batches = TrainBatches(dataset, 3, seed=0)
    batch = batches.batch(1)
    for row in range(3):
        index = dataset.names.index(batch.names[row])
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, 1, 3 + row])))
        lq, gt = dataset.crop(index, rng)
        np.testing.assert_array_equal(batch.lq[row].numpy().transpose(1, 2, 0), lq)
        np.testing.assert_array_equal(batch.gt[row].numpy().transpose(1, 2, 0), gt)


def test_a_batch_depends_on_its_number_and_the_seed_only(dataset: PairedImageDataset):
    batches = TrainBatches(dataset, 4, seed=3)
    late = batches.batch(9)
    batches.batch(2)
    assert same(late, batches.batch(9))
    assert same(late, TrainBatches(dataset, 4, seed=3).batch(9))
    assert not same(late, TrainBatches(dataset, 4, seed=4).batch(9))
    assert not torch.equal(late.gt, batches.batch(10).gt)


def test_the_seed_changes_the_order(dataset: PairedImageDataset):
    orders = {tuple(TrainBatches(dataset, 5, seed=seed).batch(0).names) for seed in range(6)}
    assert len(orders) > 2


@pytest.mark.parametrize("enlarge", [1, 3])
def test_every_epoch_shows_every_picture_equally_often(dataset: PairedImageDataset, enlarge: int):
    batches = TrainBatches(dataset, 2, seed=0, enlarge_ratio=enlarge)  # 5 pictures: epochs end within batches
    stream = [name for index in range(30) for name in batches.batch(index).names]
    epochs = [stream[start : start + 5 * enlarge] for start in range(0, 60, 5 * enlarge)]
    for epoch in epochs:
        assert Counter(epoch) == dict.fromkeys(dataset.names, enlarge)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert [batches.epoch(index) for index in (0, 2, 3)] == ([0, 0, 1] if enlarge == 1 else [0, 0, 0])


def test_a_picture_gives_another_crop_each_epoch(dataset: PairedImageDataset):
    batches = TrainBatches(dataset, 5, seed=0)
    crops = set()
    for index in range(6):
        batch = batches.batch(index)
        crops.add(batch.gt[batch.names.index("img1")].numpy().tobytes())
    assert len(crops) == 6


@pytest.mark.parametrize("start", [0, 4])
def test_iterate_gives_the_same_batches_from_any_start(dataset: PairedImageDataset, start: int):
    batches = TrainBatches(dataset, 3, seed=1)
    got = list(batches.iterate(start, 9))
    assert [batch.index for batch in got] == list(range(start, 9))
    assert all(same(batch, batches.batch(batch.index)) for batch in got)
    assert batch_threads() == []


def test_closing_ends_the_thread(dataset: PairedImageDataset):
    stream = TrainBatches(dataset, 3, seed=1).iterate(0)
    assert next(stream).index == 0
    assert len(batch_threads()) == 1
    stream.close()
    assert batch_threads() == []


def test_two_batches_are_made_ahead_and_no_more(dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch):
    batches = TrainBatches(dataset, 3, seed=1)
    made: list[int] = []
    original = batches.batch
    monkeypatch.setattr(batches, "batch", lambda index, *rest: made.append(index) or original(index, *rest))
    stream = batches.iterate(0)
    next(stream)
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]  # one taken, two ready, one waiting for a place
    stream.close()


def test_errors_of_the_thread_reach_the_consumer(dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch):
    batches = TrainBatches(dataset, 3, seed=1)
    original = batches.batch

    def fail_at_two(index: int, *rest) -> Batch:
        if index == 2:
            raise RuntimeError("the disk has gone")
        return original(index, *rest)

    monkeypatch.setattr(batches, "batch", fail_at_two)
    stream = batches.iterate(0, 5)
    assert [next(stream).index, next(stream).index] == [0, 1]
    with pytest.raises(RuntimeError, match="the disk has gone"):
        next(stream)
    assert batch_threads() == []


def test_several_threads_make_the_batches_of_one(dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch):
    one, several = TrainBatches(dataset, 6, seed=2), TrainBatches(dataset, 6, seed=2, threads=3)
    original, at_once = dataset.crop_views, threading.Barrier(3)

    def together(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        at_once.wait(timeout=20)  # three are inside, or nobody gets on
        return original(index, rng)

    monkeypatch.setattr(dataset, "crop_views", together)
    got = list(several.iterate(0, 4))
    monkeypatch.undo()
    assert len(got) == 4
    assert all(same(batch, one.batch(batch.index)) for batch in got)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mvmsr-")]


def test_an_error_in_one_of_several_threads_reaches_the_consumer(
    dataset: PairedImageDataset, monkeypatch: pytest.MonkeyPatch
):
    def fail(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        raise OSError("the disk has gone")

    monkeypatch.setattr(dataset, "crop_views", fail)
    with pytest.raises(OSError, match="the disk has gone"):
        next(TrainBatches(dataset, 6, seed=2, threads=3).iterate(0))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mvmsr-")]


def test_shares_of_several_processes_make_the_batch_of_one(dataset: PairedImageDataset):
    whole = TrainBatches(dataset, 6, seed=2).batch(3)
    parts = [TrainBatches(dataset, 6, seed=2, rank=rank, world_size=3).batch(3) for rank in range(3)]
    assert torch.equal(torch.cat([part.gt for part in parts]), whole.gt)
    assert torch.equal(torch.cat([part.lq for part in parts]), whole.lq)
    assert [name for part in parts for name in part.names] == whole.names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "got 0, 1 and 0"),
        ({"batch_size": 2, "enlarge_ratio": 0}, "got 2, 0 and 0"),
        ({"batch_size": 2, "seed": -1}, "got 2, 1 and -1"),
        ({"batch_size": 3, "world_size": 2}, "multiple of world_size 2"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank 2 below it"),
    ],
)
def test_refuses(dataset: PairedImageDataset, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TrainBatches(dataset, **{"seed": 0, **arguments})


def test_batches_count_from_zero(dataset: PairedImageDataset):
    with pytest.raises(IndexError, match="got -1"):
        TrainBatches(dataset, 2, seed=0).batch(-1)
