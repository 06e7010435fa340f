"""Decoded pictures in one memory-mapped file, so that a training crop costs a copy and no decoding.

A store is a folder `NAME.mvmpack` with

- `pixels.bin`: for each picture its ground truth, then its low-quality version, as (H, W, 3) uint8;
- `index.json`: shapes and offsets, the sources with their sizes and times, the scale, versions and a checksum.

`packing` writes it aside and renames it when complete. What it holds is given by its sources and the scale alone, so
deleting it loses nothing but the time to decode again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1  # of the file format and of how its pixels are made; stores of another version are built again


class StoreError(ValueError):
    """A store that cannot be used: incomplete, damaged, of another version, or made from other pictures."""


@dataclass(frozen=True)
class Entry:
    """Where one pair lies in `pixels.bin`: (height, width) and byte offset of both pictures."""

    name: str
    gt_size: tuple[int, int]
    lq_size: tuple[int, int]
    gt_offset: int
    lq_offset: int


class PackedStore:
    """Read access to a store; `gt(i)` and `lq(i)` are read-only views into the memory map."""

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.scale: int = index["scale"]
        self.entries = [
            Entry(e["name"], tuple(e["gt_size"]), tuple(e["lq_size"]), e["gt_offset"], e["lq_offset"])
            for e in index["entries"]
        ]
        pixels = np.asarray(np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r"))
        self._gt = [_view(pixels, e.gt_offset, e.gt_size) for e in self.entries]
        self._lq = [_view(pixels, e.lq_offset, e.lq_size) for e in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def gt(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8; sides are multiples of the scale."""
        return self._gt[index]

    def lq(self, index: int) -> np.ndarray:
        """(H / scale, W / scale, 3) uint8."""
        return self._lq[index]

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.folder,)  # another process maps the file itself; pixels are never pickled


def open_store(folder: str | Path) -> PackedStore:
    """Open a store after checking it: version, checksum of the index, file length, and that no source has changed.

    Raises:
        StoreError: the store cannot be used; build it again.
    """
    folder = Path(folder)
    try:
        text = (folder / "index.json").read_text(encoding="utf-8")
        document = json.loads(text)
        index, recorded = document["index"], document["sha256"]
        length = (folder / "pixels.bin").stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} is incomplete ({error})") from error
    if index.get("version") != VERSION:
        raise StoreError(f"{folder} has version {index.get('version')}, this program writes {VERSION}")
    if recorded != checksum(index):
        raise StoreError(f"the index of {folder} is damaged")
    if length != index["bytes"]:
        raise StoreError(f"{folder}/pixels.bin has {length} bytes instead of {index['bytes']}")
    for source in index["sources"]:
        if stamp(Path(source["path"])) != source:
            raise StoreError(f"{source['path']} has changed since it was packed")
    return PackedStore(folder, index)


def stamp(path: Path) -> dict[str, Any]:
    """What tells whether a file has changed: its size and time of change."""
    try:
        stat = path.stat()
    except OSError:
        return {"path": str(path.absolute()), "bytes": -1, "mtime_ns": -1}
    return {"path": str(path.absolute()), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def checksum(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _view(pixels: np.ndarray, offset: int, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return pixels[offset : offset + height * width * 3].reshape(height, width, 3)
