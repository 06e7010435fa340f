"""Training batches as a function of their number.

Batch `i` depends on the data set, the batch size, the seed and `i`, and on nothing else: there is no state to save,
and a run that continues at iteration `i` sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

_AHEAD = 2


class CropSource(Protocol):
    """What batches are made from; `PairedImageDataset` is one."""

    scale: int
    gt_size: int
    names: list[str]

    def __len__(self) -> int: ...

    def crop_views(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]: ...


Crop = tuple[str, np.ndarray, np.ndarray]
"""A picture's name; its crop of low quality and its ground truth, (H, W, 3) uint8."""

MapCrops = Callable[[Callable[[int], Crop], Iterable[int]], Iterable[Crop]]
"""`map`, or that of a pool of threads."""


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        lq: (N, 3, h, w) uint8, contiguous; the device converts to float.
        gt: (N, 3, h * scale, w * scale) uint8, contiguous.
        names: of the N pictures.
        index: the number of the batch.
    """

    lq: Tensor
    gt: Tensor
    names: list[str]
    index: int


class TrainBatches:
    """An endless stream of batches with random access.

    Every picture gives one random crop an epoch (`enlarge_ratio` crops), in an order drawn anew for each epoch. Epochs
    follow each other without a gap: where the number of pictures is no multiple of the batch size, a batch takes its
    last pictures from the next epoch, and none is dropped.

    Args:
        dataset: where crops come from.
        batch_size: pictures in a batch, over all processes.
        seed: of order, crops and symmetries.
        enlarge_ratio: crops of each picture an epoch.
        rank, world_size: this process takes its share of every batch: `batch_size / world_size` pictures. All shares
            together are the batch of a single process.
        threads: how many crops `iterate` makes at once. The batches are the same; the data set's `crop_views` must
            allow it.
    """

    def __init__(
        self,
        dataset: CropSource,
        batch_size: int,
        seed: int,
        enlarge_ratio: int = 1,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 1,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("the data set holds no images")
        if batch_size < 1 or enlarge_ratio < 1 or seed < 0:
            raise ValueError(
                "expected batch_size and enlarge_ratio of at least 1 and a seed of at least 0, "
                f"got {batch_size}, {enlarge_ratio} and {seed}"
            )
        if not 0 <= rank < world_size or batch_size % world_size:
            raise ValueError(
                f"batch_size {batch_size} must be a multiple of world_size {world_size}, and rank {rank} below it"
            )
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.enlarge_ratio = enlarge_ratio
        self.epoch_length = len(dataset) * enlarge_ratio
        self._threads = threads
        self._share = batch_size // world_size
        self._first = rank * self._share
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def epoch(self, index: int) -> int:
        """The epoch that batch `index` begins in."""
        return index * self.batch_size // self.epoch_length

    def batch(self, index: int, map_crops: MapCrops = map) -> Batch:
        """Batch number `index`, counted from 0."""
        if index < 0:
            raise IndexError(f"batches count from 0, got {index}")
        gt_size, count = self.dataset.gt_size, self._share
        side = gt_size // self.dataset.scale
        lq = np.empty((count, 3, side, side), dtype=np.uint8)
        gt = np.empty((count, 3, gt_size, gt_size), dtype=np.uint8)
        names = []
        start = index * self.batch_size + self._first
        for row, (name, low, high) in enumerate(map_crops(self._crop, range(start, start + count))):
            lq[row], gt[row] = low.transpose(2, 0, 1), high.transpose(2, 0, 1)
            names.append(name)
        return Batch(torch.from_numpy(lq), torch.from_numpy(gt), names, index)

    def _crop(self, position: int) -> Crop:
        """The crop at a position of the endless stream."""
        epoch, place = divmod(position, self.epoch_length)
        picture = int(self._order(epoch)[place])
        return self.dataset.names[picture], *self.dataset.crop_views(picture, self._rng(1, position))

    def iterate(self, start: int, stop: int | None = None, pin_memory: bool = False) -> Generator[Batch, None, None]:
        """Batches `start` to `stop - 1` (without end if None), made in the background, two of them ahead.

        Args:
            pin_memory: put them into page-locked memory, for asynchronous copies to a CUDA device.

        An error in a thread is raised here. The threads end with the generator: when it is exhausted, closed or
        garbage-collected.
        """
        pin_memory = pin_memory and torch.cuda.is_available()
        indices = iter(range(start, stop)) if stop is not None else itertools.count(start)
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=_AHEAD)
        closed = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not closed.is_set():
                with suppress(queue.Full):
                    ready.put(item, timeout=0.1)
                    return

        def work() -> None:
            try:
                with ThreadPoolExecutor(self._threads, "mvmsr-crops") if self._threads > 1 else nullcontext() as pool:
                    for index in indices:
                        if closed.is_set():
                            return
                        put(self._ready(index, pin_memory, pool.map if pool else map))
                put(None)
            except BaseException as error:  # whatever it is belongs to the consumer
                put(error)

        thread = threading.Thread(target=work, name="mvmsr-batches", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            closed.set()
            thread.join()

    def _ready(self, index: int, pin_memory: bool, map_crops: MapCrops) -> Batch:
        batch = self.batch(index, map_crops)
        if not pin_memory:
            return batch
        return Batch(batch.lq.pin_memory(), batch.gt.pin_memory(), batch.names, batch.index)

    def _rng(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, purpose, number])))

    def _draw_order(self, epoch: int) -> np.ndarray:
        """Which picture each place of an epoch shows."""
        return self._rng(0, epoch).permutation(self.epoch_length) % len(self.dataset)
