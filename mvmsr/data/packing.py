"""Decoding pictures into a packed store, and the audit that comes before it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvmsr.counting import counted
from mvmsr.data.image_io import ImageError, image_size, read_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair
from mvmsr.data.other_scale import other_scale
from mvmsr.data.packed_store import VERSION, Entry, PackedStore, StoreError, checksum, open_store, stamp

log = logging.getLogger(__name__)

_PARALLEL_FROM = 50
_LOCK_STALE_SEC = 60.0
_SHOWN = 10


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be used: by which option of its data set it came, and why, with the remedy."""

    option: str
    why: str


class PairError(ValueError):
    """Pictures that cannot be used; the message lists up to 10 of them with the remedy.

    Args:
        problems: one for each picture, at least one.
        hint: a line to put below the list.

    Attributes:
        option: the one that all problems are about, else `dataroot_gt`.
    """

    def __init__(self, problems: Sequence[Unusable], hint: str = "") -> None:
        super().__init__(_listed([problem.why for problem in problems]) + hint)
        options = {problem.option for problem in problems}
        self.option = options.pop() if len(options) == 1 else "dataroot_gt"


def by_file(pair: ImagePair, error: ImageError) -> Unusable:
    """A picture of the pair that cannot be read."""
    return Unusable("dataroot_lq" if error.path == pair.lq else "dataroot_gt", str(error))


def load_or_build(
    pairs: Sequence[ImagePair], scale: int, cache_dir: Path, min_gt_size: int = 1, label: str = "images"
) -> PackedStore:
    """The store of these pairs below `cache_dir`, built first where it is missing or cannot be used.

    Args:
        min_gt_size: smallest side that a ground truth may have, after cropping it to a multiple of the scale.
        label: readable part of the folder's name.

    Raises:
        PairError: pictures are unreadable, of wrong sizes or too small; up to 10 of them are listed. Nothing is
            written then.
    """
    sources = _sources(pairs)
    # The pixels do not depend on min_gt_size, so it is no part of the key; it is checked in either case.
    same_paths = checksum([[s["path"] for s in sources], scale])[:8]
    content = checksum([sources, [p.name for p in pairs], scale, VERSION])[:12]
    folder = cache_dir / f"{label}-x{scale}-{same_paths}-{content}.mvmpack"
    store = _try_open(folder)
    if store is None:
        older = [old for old in cache_dir.glob(f"*-{same_paths}-*.mvmpack") if old != folder]
        if older:
            log.info("images of %s have changed since they were packed; packing again", label)
        store = _build_locked(pairs, sources, scale, folder, min_gt_size)
        for old in older:
            shutil.rmtree(old, ignore_errors=True)
    if any(min(entry.gt_size) < min_gt_size for entry in store.entries):
        plan(pairs, scale, min_gt_size)  # says which
    return store


def _try_open(folder: Path) -> PackedStore | None:
    if not folder.exists():
        return None
    try:
        return open_store(folder)
    except StoreError as error:
        log.info("%s; packing again", error)
        return None


def _build_locked(
    pairs: Sequence[ImagePair], sources: list[dict[str, Any]], scale: int, folder: Path, min_gt_size: int
) -> PackedStore:
    """Build while holding a lock file, so that several processes of one run decode only once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_suffix(".lock")
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            with suppress(FileNotFoundError):  # gone in the meantime: try again at once
                if time.time() - lock.stat().st_mtime > _LOCK_STALE_SEC:
                    lock.unlink()
                else:
                    time.sleep(0.2)
    try:
        if (store := _try_open(folder)) is not None:  # another process has finished it while we waited
            return store
        return _build(pairs, sources, scale, folder, min_gt_size, lock)
    finally:
        lock.unlink(missing_ok=True)


def _build(
    pairs: Sequence[ImagePair],
    sources: list[dict[str, Any]],
    scale: int,
    folder: Path,
    min_gt_size: int,
    lock: Path,
) -> PackedStore:
    entries, length = plan(pairs, scale, min_gt_size)
    aside = folder.parent / f".{uuid.uuid4().hex}.part"
    try:
        aside.mkdir()
        with open(aside / "pixels.bin", "wb") as file:
            file.truncate(length)
        _check_space(aside, length)
        _pack_all(pairs, entries, scale, aside / "pixels.bin", lock)
        index = {
            "version": VERSION,
            "scale": scale,
            "imresize": "matlab",
            "bytes": length,
            "entries": [vars(entry) for entry in entries],
            "sources": sources,
        }
        document = {"sha256": checksum(index), "index": index}
        (aside / "index.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return open_store(folder)


def plan(pairs: Sequence[ImagePair], scale: int, min_gt_size: int = 1) -> tuple[list[Entry], int]:
    """Where each pair will lie, from the headers of the files; and the total number of bytes.

    Raises:
        PairError: `audit` finds problems; up to 10 are listed.
    """
    entries, problems = audit(pairs, scale, min_gt_size)
    if problems:
        raise PairError(problems, _largest_gt_size(problems, pairs, scale) + other_scale(pairs, scale))
    last = entries[-1]
    return entries, last.lq_offset + _bytes(last.lq_size)


def audit(pairs: Sequence[ImagePair], scale: int, min_gt_size: int = 1) -> tuple[list[Entry], list[Unusable]]:
    """Look at the headers of all pictures.

    Returns:
        The entries of the pairs that can be used, and one problem for each that cannot: unreadable, of a size that
        does not match its partner's, or smaller than `min_gt_size`.
    """
    entries: list[Entry] = []
    problems: list[Unusable] = []
    offset = 0
    for pair in pairs:
        try:
            height, width = image_size(pair.gt)
            gt_size = (height - height % scale, width - width % scale)
            lq_size = (gt_size[0] // scale, gt_size[1] // scale)
            if min(gt_size) < max(min_gt_size, scale):
                problems.append(_too_small(pair.gt, (height, width), scale, min_gt_size))
                continue
            # Made from a ground truth that is no multiple of the scale, the low-quality picture has ceil(side / scale).
            accepted = (lq_size, (-(-height // scale), -(-width // scale)))
            if pair.lq is not None and (found := image_size(pair.lq)) not in accepted:
                why = (
                    f"{pair.lq}: {_sides(found)}, expected {_sides(lq_size)} for {pair.gt.name} of "
                    f"{_sides((height, width))} at x{scale}; make it again or leave dataroot_lq out"
                )
                problems.append(Unusable("dataroot_lq", why))
                continue
        except ImageError as error:
            problems.append(by_file(pair, error))
            continue
        entries.append(Entry(pair.name, gt_size, lq_size, offset, offset + _bytes(gt_size)))
        offset += _bytes(gt_size) + _bytes(lq_size)
    return entries, problems


def _pack_all(pairs: Sequence[ImagePair], entries: list[Entry], scale: int, target: Path, lock: Path) -> None:
    # Decoders and matrix products release the interpreter's lock, so threads use all cores; unlike processes they
    # need no importable main module and no copies of the pixels.
    workers = min(os.cpu_count() or 1, 16) if len(pairs) > _PARALLEL_FROM else 1
    problems: list[Unusable] = []
    with ThreadPoolExecutor(workers) as pool:
        jobs = {
            pool.submit(_pack_one, pair, entry, scale, target): pair for pair, entry in zip(pairs, entries, strict=True)
        }
        try:
            for job in _with_progress(as_completed(jobs), len(jobs)):
                lock.touch()
                try:
                    job.result()
                except ImageError as error:
                    problems.append(by_file(jobs[job], error))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if problems:
        raise PairError(problems)


def _pack_one(pair: ImagePair, entry: Entry, scale: int, target: Path) -> None:
    whole = read_rgb(pair.gt)
    height, width = entry.gt_size
    if whole.shape[0] < height or whole.shape[1] < width:
        raise ImageError(pair.gt, "decodes to another size than its header says", "replace the file")
    gt = whole[:height, :width]
    low = imresize(gt, 1 / scale) if pair.lq is None else read_rgb(pair.lq)
    low = low[: entry.lq_size[0], : entry.lq_size[1]]
    if low.shape[:2] != entry.lq_size:
        raise ImageError(pair.lq or pair.gt, "decodes to another size than its header says", "replace the file")
    with open(target, "r+b") as file:
        file.seek(entry.gt_offset)
        file.write(np.ascontiguousarray(gt).data)
        file.seek(entry.lq_offset)
        file.write(np.ascontiguousarray(low).data)


def _with_progress(jobs: Iterable[Any], total: int) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(jobs, "packing images", total, console=console, transient=True, disable=total < 10)


def _check_space(folder: Path, length: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < length:
        raise OSError(
            f"packing needs {length / 2**20:.0f} MiB in {folder.parent}, {free / 2**20:.0f} MiB are free; "
            "free some space or set cache_dir to another disk"
        )


def _sources(pairs: Sequence[ImagePair]) -> list[dict[str, Any]]:
    return [stamp(path) for pair in pairs for path in (pair.gt, pair.lq) if path is not None]


def _bytes(size: tuple[int, int]) -> int:
    return size[0] * size[1] * 3


def _sides(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"  # width first, as people write it


def _too_small(path: Path, size: tuple[int, int], scale: int, min_gt_size: int) -> Unusable:
    if min(size) < scale:
        return Unusable("dataroot_gt", f"{path}: {_sides(size)} is too small for x{scale}; take it out")
    why = f"{path}: {_sides(size)} is smaller than gt_size {min_gt_size}; lower gt_size or take the image out"
    return Unusable("gt_size", why)


def _largest_gt_size(problems: Sequence[Unusable], pairs: Sequence[ImagePair], scale: int) -> str:
    """A line to put below images that are smaller than gt_size: the largest that fits; empty where there are none.

    Images that are too small for any are to be taken out, and do not count.
    """
    if all(problem.option != "gt_size" for problem in problems):
        return ""
    sizes: dict[Path, int] = {}
    for pair in pairs:
        with suppress(ImageError):
            sizes[pair.gt] = min(image_size(pair.gt)) // scale * scale
    smallest = min((path for path in sizes if sizes[path]), key=sizes.__getitem__)
    return f"\n  all images allow gt_size up to {sizes[smallest]}; {smallest} is the smallest"


def _listed(problems: list[str]) -> str:
    lines = [f"{counted(len(problems), 'image')} cannot be used:", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} more")
    return "\n".join(lines)
