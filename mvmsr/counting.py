"""Numbers of things, in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number and its noun, which takes an s in the plural.

    >>> counted(1, "image"), counted(0, "image"), counted(1234, "training image")
    ('1 image', '0 images', '1,234 training images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
