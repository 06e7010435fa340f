"""What a run writes down: `stats.jsonl` (the truth), TensorBoard (a view of it).

Values stay tensors until they are logged, so that logging is the only thing that waits for the device.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvmsr.atomic import write_whole
from mvmsr.stats_record import parse_record

log = logging.getLogger(__name__)


def _widest(device: torch.device) -> torch.dtype:
    """Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class RunningMeans:
    """Means of named scalars since the last report, kept on the device; part of a checkpoint."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one observation of each value."""
        for name, value in values.items():
            value = value.detach().to(_widest(value.device))
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means; counting begins anew. One transfer from the device."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        means = {name: total / self._counts[name] for name, total in zip(self._sums, sums, strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"sums": {k: v.cpu() for k, v in self._sums.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up the observations of a checkpoint."""
        self._sums = {k: v.to(device, _widest(device)) for k, v in state["sums"].items()}
        self._counts = dict(state["counts"])


class StatsLog:
    """Appends records to `stats.jsonl` and mirrors their numbers to TensorBoard.

    A disk that refuses does not stop the training: records wait in memory, and are written when there is room again.

    Args:
        folder: the run directory.
        start: the iteration that the run begins or resumes at; later records, which the run will write again, are
            removed, and no longer shown by TensorBoard.
        tensorboard: whether to write event files.
    """

    def __init__(self, folder: Path, start: int, tensorboard: bool) -> None:
        self._path = folder / "stats.jsonl"
        _truncate(self._path, start)
        self._file = self._path.open("ab", buffering=0)
        self._waiting = b""
        self._refused = False
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """One record; it is with the system when this returns, unless the disk refuses."""
        self._waiting += (json.dumps({"iter": iteration, **values}) + "\n").encode()
        try:
            self._flush()
            if self._refused:
                log.info("%s can be written again", self._path)
            self._refused = False
        except OSError as error:
            if not self._refused:
                log.error("%s cannot be written: %s; records wait in memory until it can", self._path, error)
            self._refused = True
        if self._writer:
            try:
                for name, value in values.items():
                    self._writer.add_scalar(name, value, iteration)
            except OSError as error:
                self._give_up_tensorboard(error)

    def sync(self) -> None:
        """Make what was written survive a crash of the machine (called with every checkpoint).

        Raises:
            OSError: the disk refuses records that wait.
        """
        self._flush()
        os.fsync(self._file.fileno())
        if self._writer:
            try:
                self._writer.flush()
            except OSError as error:
                self._give_up_tensorboard(error)

    def close(self) -> None:
        """Close the files."""
        try:
            self._flush()
        except OSError as error:
            log.error("%s lacks its last records: %s", self._path, error)
        self._file.close()
        if self._writer:
            try:
                self._writer.close()
            except OSError as error:
                log.error("TensorBoard's files lack their last records: %s", error)

    def _flush(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._file.write(self._waiting) :]

    def _give_up_tensorboard(self, error: OSError) -> None:
        log.error("No more TensorBoard records of this run: %s; %s has them all", error, self._path)
        self._writer = None


class NoLog:
    """Writes nothing: of several processes only the first one has a `StatsLog`."""

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_stats(path: Path) -> list[dict[str, Any]]:
    """The records of a `stats.jsonl`; damaged lines, as a last one cut off by a crash, are left out."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    return [record for line in lines if (record := parse_record(line)) is not None]


def _truncate(path: Path, start: int) -> None:
    kept = [record for record in read_stats(path) if record["iter"] <= start] if start else []
    write_whole(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
