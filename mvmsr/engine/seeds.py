"""Seeds for what is drawn anew in every iteration, process or part of a batch."""

from __future__ import annotations


def mixed_seed(run: int, second: int, third: int) -> int:
    """Three numbers into one, in [0, 2^63); any odd constants do."""
    return ((run * 1_000_003 + second) * 65_537 + third) % 2**63
