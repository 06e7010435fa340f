"""Spans of time in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """In the largest unit of which there are two at least.

    >>> duration(90), duration(7200)
    ('90 seconds', '2.0 hours')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    rounded = f"{seconds:.0f}"
    return f"{rounded} second{'' if rounded == '1' else 's'}"
