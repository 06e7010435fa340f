"""The factor that pairs of pictures have, where it is not the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from mvmsr.data.image_io import image_size
from mvmsr.data.layouts import ImagePair
from mvmsr.data.picture import ImageError


def other_scale(pairs: Iterable[ImagePair], scale: int) -> str:
    """A line to put below a list of misfits, where all pairs fit one other whole factor; else empty."""
    factors = {_factor(pair) for pair in pairs} - {0}
    if len(factors) != 1 or not factors - {None, scale}:
        return ""
    found = factors.pop()
    return (
        f"\n  all pairs fit scale: {found}, not {scale}; correct scale, or dataroot_lq to a folder of x{scale} images"
    )


def _factor(pair: ImagePair) -> int | None:
    """The pair's factor; None where it has none, 0 where a file cannot be read."""
    if pair.lq is None:
        return None
    try:
        gt, lq = image_size(pair.gt), image_size(pair.lq)
    except ImageError:
        return 0
    factor = max(round(gt[0] / lq[0]), 1)
    fits = all(low in (side // factor, -(-side // factor)) for side, low in zip(gt, lq, strict=True))
    return factor if fits else None
