"""What the C library does with freed memory, where it is glibc; elsewhere these do nothing."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1  # of malloc.h
_M_MMAP_THRESHOLD = -3


def hand_back_at_once() -> None:
    """Return freed blocks of megabytes to the system.

    glibc otherwise keeps blocks of up to 32 MiB for later, in pieces that fit the next tile badly, and the process
    grows beyond any bound that was computed from what it uses.
    """
    _set(_M_MMAP_THRESHOLD, 2**20)


def keep_for_reuse() -> None:
    """Keep up to 1 GiB of freed memory.

    A training step frees and takes the same memory every time. glibc would return it to the system in between, which
    then maps and clears every page anew: 13,000 a step of SRResNet with a discriminator.
    """
    _set(_M_MMAP_THRESHOLD, 2**25)
    _set(_M_TRIM_THRESHOLD, 2**30)


def _set(parameter: int, value: int) -> None:
    try:
        ctypes.CDLL(None).mallopt(parameter, value)
    except (OSError, AttributeError, TypeError):
        return  # another C library, with habits of its own
