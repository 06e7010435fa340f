"""What the headers of validation pictures tell before a run begins, instead of when they are first scored."""

from __future__ import annotations

from mvmsr.benchmark.image_sets import MODCROP, ImageSet
from mvmsr.data.image_io import image_size
from mvmsr.data.layouts import ImagePair
from mvmsr.data.other_scale import other_scale
from mvmsr.data.packing import PairError, Unusable, by_file
from mvmsr.data.picture import ImageError


def require_fitting_headers(image_set: ImageSet) -> None:
    """Look at the sizes of all pictures, by the rules of `ImageSet.load`; nothing is decoded.

    Raises:
        PairError: files that are no pictures, or whose sizes do not fit; up to 10 of them are listed.
    """
    problems = [found for pair in image_set.pairs if (found := _problem(pair, image_set.scale))]
    if problems:
        raise PairError(problems, other_scale(image_set.pairs, image_set.scale))


def _problem(pair: ImagePair, scale: int) -> Unusable | None:
    try:
        gt = image_size(pair.gt)
        lq = None if pair.lq is None else image_size(pair.lq)
    except ImageError as error:
        return by_file(pair, error)
    height, width = (side // scale for side in gt)
    if min(height, width) < 1:
        return Unusable("dataroot_gt", f"{pair.gt} is {gt[1]}x{gt[0]}, too small for x{scale}; take it out")
    if lq is None:
        return None
    short = (height - lq[0], width - lq[1])
    if min(short) >= 0 and max(short) <= MODCROP // scale:
        return None
    return Unusable(
        "dataroot_lq",
        f"{pair.lq} is {lq[1]}x{lq[0]}, expected {width}x{height} for {pair.gt.name} of {gt[1]}x{gt[0]} at x{scale}; "
        "make it again or leave dataroot_lq out",
    )
