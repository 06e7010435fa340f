"""How much memory there is, and the tiles that fit into it."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from mvmsr import container_memory

FALLBACK_TILE = 256
MIN_TILE = 16
MAX_TILE = {"cuda": 1024}
_MAX_TILE_ELSEWHERE = 512
_MEMORY_SHARE = 0.5
_SLACK = 16
"""This part of a limit stays free: the allocator rounds up, and large pages are taken whole."""
_ROW_COPIES = 2
"""Bands that are alive at once: the one that grows, and as much again of what is made of it on the way to the file."""
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate", "to allocate", "alloc_failed")


def auto_tile(
    bytes_per_pixel: int,
    device: torch.device,
    margin: int,
    multiple: int = 1,
    width: int = 0,
    scale: float = 1,
    limit: int | None = None,
) -> int:
    """The side of the largest core whose tile, with the rows of output beside it, fits.

    Without a `limit`, a tile may take half of the device's free memory; with one, all that it leaves.

    Args:
        bytes_per_pixel: what the network needs for one input pixel.
        margin: halo and blend together, which the tile carries on each side.
        multiple: the side is a multiple of it.
        width: of the picture, in input pixels.
        scale: factor of the output.
        limit: bytes that all of the process may take.

    Raises:
        MemoryError: not even the smallest useful tile stays below `limit`.
    """
    free = free_memory(device)
    budget = None if free is None else int(free * _MEMORY_SHARE)
    if limit is not None:
        left = limit - limit // _SLACK - used_memory(device)
        budget = left if free is None else min(left, free)
    if budget is None:
        return round_down(FALLBACK_TILE, multiple)
    rows = 4 * 3 * _ROW_COPIES * width * scale**2 if device.type == "cpu" or limit is not None else 0
    # side**2 * area + side * (4 * margin * area + rows) + ... = budget
    area = max(bytes_per_pixel, 1)
    slope = 4 * margin * area + rows
    remainder = budget - 4 * margin**2 * area
    side = int(((slope**2 + 4 * area * remainder) ** 0.5 - slope) / (2 * area)) if remainder > 0 else 0
    if limit is not None and side < max(MIN_TILE, multiple):
        needed = area * (MIN_TILE + 2 * margin) ** 2 + MIN_TILE * rows
        raise _beyond(limit, "the smallest tiles of this network need", int(needed), limit - budget)
    largest = MAX_TILE.get(device.type, _MAX_TILE_ELSEWHERE)
    return round_down(min(max(side, MIN_TILE if limit is not None else 2 * MIN_TILE), largest), multiple)


def require_room(what: str, needed: int, limit: int) -> None:
    """Refuses work in the host's memory that would take the process beyond a limit.

    Args:
        what: subject and verb of the error, such as `bicubic rows need`.
        needed: bytes that the work takes.
        limit: bytes that all of the process may take.

    Raises:
        MemoryError: it would.
    """
    taken = limit // _SLACK + used_memory(torch.device("cpu"))
    if taken + needed > limit:
        raise _beyond(limit, what, needed, taken)


def _beyond(limit: int, what: str, needed: int, taken: int) -> MemoryError:
    return MemoryError(
        f"{what} about {mebibytes(needed)} more and {mebibytes(taken)} are taken or kept free, but only "
        f"{mebibytes(limit)} are allowed; raise the limit"
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that a new allocation may take on the device; None where that cannot be told."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    return container_memory.free_memory()


def used_memory(device: torch.device) -> int:
    """Bytes that this process holds: on a GPU what torch allocated there, else its resident memory."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        import resource

        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()
    except (ImportError, OSError):
        return 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def release_memory() -> None:
    """Hands memory that torch keeps in reserve on a GPU back, after a failed allocation."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def round_down(value: int, multiple: int) -> int:
    """The largest multiple that is at most `value`, and at least one `multiple`."""
    return max(value // multiple, 1) * multiple


def mebibytes(amount: float) -> str:
    """`123 MiB`."""
    return f"{amount / 2**20:,.0f} MiB"


def parse_bytes(text: str) -> int:
    """Bytes of `2G`, `1500M`, `0.5GiB` or `800000K`, in powers of 1024; K, KB and KiB are the same.

    >>> parse_bytes("1.5G")
    1610612736

    Raises:
        ValueError: it is none of these, or 2**60 bytes and more.
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT])(?:I?B)?\s*", text.upper(), re.ASCII)
    amount = float(found[1]) * units[found[2]] if found else 0
    if not 0 < amount < 2**60:
        raise ValueError(f"expected an amount of memory such as 2G, 1500M or 800000K, got {text!r}")
    return int(amount)
