"""What visitors of the page may ask of the machine."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_OUTPUT = 16
"""A result has at most this many times the pixels that an input may have: x4 of the largest input."""


class Refused(ValueError):
    """A request that cannot be met; the message is for the visitor and names no path of this machine."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one visit.

    Attributes:
        upload_bytes: of an uploaded file.
        pixels: of an uploaded picture.
        seconds: of work on one picture.
        waiting: jobs in the queue.
    """

    upload_bytes: int = 64 * 2**20
    pixels: int = 4 * 10**6
    seconds: float = 300.0
    waiting: int = 8

    def __post_init__(self) -> None:
        for name in ("upload_bytes", "pixels", "seconds", "waiting"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    def check_size(self, name: str, height: int, width: int, scale: float) -> None:
        """Refuses a picture, or a result, of too many pixels.

        Raises:
            Refused: saying which, how many, and what would be accepted.
        """
        if height * width > self.pixels:
            raise Refused(
                f"{name} has {width} × {height} pixels ({height * width / 1e6:,.1f} million); this page takes at most "
                f"{self.pixels / 1e6:,.1f} million. Reduce or crop it first."
            )
        largest = self.pixels * LARGEST_OUTPUT
        wanted = height * width * scale**2
        if wanted > largest:
            raise Refused(
                f"{name} at x{scale:g} would have {wanted / 1e6:,.0f} million pixels; results here have at most "
                f"{largest / 1e6:,.0f} million. Choose a smaller scale."
            )


def parse_pixels(text: str) -> int:
    """Pixels of `4M`, `2.5M`, `800K` or `3000000`; K and M are thousands and millions.

    >>> parse_pixels("2.5M")
    2500000

    Raises:
        ValueError: it is none of these.
    """
    factor = {"K": 10**3, "M": 10**6}.get(text[-1:].upper(), 1)
    try:
        amount = float(text if factor == 1 else text[:-1]) * factor
    except ValueError:
        amount = 0.0
    if not 1 <= amount < 2**53:
        raise ValueError(f"expected a number of pixels such as 4M or 800K, got {text!r}")
    return int(amount)
