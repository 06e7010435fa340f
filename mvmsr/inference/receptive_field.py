"""How far a network looks: measured, because a tile is right only if it sees all that its pixels depend on."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LIMIT = 64
"""The largest halo of interest, in input pixels."""
_STRIP = 8
_INVISIBLE = 0.25 / 255
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Margins:
    """What a network's tiles need around their cores, in input pixels (see `mvmsr.inference.tiling`).

    Attributes:
        halo: read and thrown away.
        blend: faded into the neighbour; 0 where `halo` makes tiles exact.
        multiple: cores and reads start at multiples of it.
    """

    halo: int
    blend: int = 0
    multiple: int = 1


def measure_margins(module: nn.Module, scale: int, multiple: int = 1) -> Margins:
    """Exact margins where the network looks no further than `LIMIT` pixels, else ones whose error is invisible.

    In the second case twice the distance at which the error falls below a quarter of an 8-bit step, at least 16
    pixels, and a blend that hides the rest. Networks that work in windows on a grid of their own are right only in
    tiles that start on that grid, so the grid is looked for: `multiple` and its doubles, up to `LIMIT`.
    """
    grid = multiple
    while grid <= LIMIT:
        faded = effective_halo(module, scale, _INVISIBLE, multiple=grid)
        if faded <= LIMIT // 2:
            exact = receptive_halo(module, scale, multiple=grid)
            return Margins(max(2 * faded, 16), 8, grid) if exact is None else Margins(exact, 0, grid)
        grid *= 2
    return Margins(LIMIT, 8, multiple)


def receptive_halo(module: nn.Module, scale: int, multiple: int = 1) -> int | None:
    """How many input pixels beyond its own an output pixel depends on, or None if that has no useful bound.

    One input pixel is replaced by NaN. NaN passes through sums, products and activations whatever the weights, so the
    outputs that turn NaN are those that depend on the pixel; a small finite perturbation would drown in rounding after
    some twenty layers. Two narrow strips, one along each axis, make this cheap. A cut then proves the answer.

    Args:
        module: (1, 3, h, w) -> (1, C, h*scale, w*scale); judged in eval mode, on a copy on the CPU.
        multiple: the network's size granularity; the answer then holds for tiles that start at multiples of it.

    Returns:
        pixels, or None where the dependence reaches further than `LIMIT` (attention over the picture, global pooling,
        instance normalisation, very deep networks) or changes from place to place (windows on a grid).

    >>> receptive_halo(nn.Conv2d(3, 3, 5, padding=2), scale=1)
    2
    """
    probe = _cpu_copy(module)
    halo = 0
    for along_width in (True, False):
        reach = _reach(probe, scale, _round_up(LIMIT, multiple), multiple, along_width)
        if reach is None or reach > LIMIT:
            return None
        halo = max(halo, reach)
    proofs = (_cut_errors(probe, scale, LIMIT, multiple, along_width) for along_width in (True, False))
    return halo if all(bool((errors[halo:] <= _ROUNDING).all()) for errors in proofs) else None


def effective_halo(module: nn.Module, scale: int, tolerance: float, multiple: int = 1) -> int:
    """How far from a cut a network's output still differs by more than `tolerance` from the uncut picture's.

    For networks whose dependence has no useful bound but fades with distance.

    Args:
        tolerance: in units of the output, whose range is [0, 1].
        multiple: cuts are made at odd multiples of it.

    Returns:
        pixels, at most `LIMIT`.
    """
    probe = _cpu_copy(module)
    halo = 0
    for along_width in (True, False):
        off = (_cut_errors(probe, scale, LIMIT, multiple, along_width) > tolerance).nonzero()
        halo = max(halo, int(off.max()) + 1 if len(off) else 0)
        if halo >= LIMIT:
            break
    return min(halo, LIMIT)


def bytes_per_pixel(module: nn.Module, scale: int, multiple: int = 1) -> int:
    """A cautious estimate of the memory that one input pixel needs in a forward pass, in bytes of float32.

    Four times the largest layer output (input, output, workspace, a skip connection), found by hooks on
    a small picture; or what the network says of itself.
    """
    if (known := getattr(module, "bytes_per_pixel", None)) is not None:
        return int(known)
    probe = _cpu_copy(module)
    side = _round_up(2 * _STRIP, multiple)
    largest = 4 * 3 * scale**2

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, 4 * output.numel() // side**2)

    handles = [part.register_forward_hook(record) for part in probe.modules()]
    try:
        with torch.no_grad():
            probe(torch.zeros(1, 3, side, side))
    finally:
        for handle in handles:
            handle.remove()
    return 4 * largest


def _reach(probe: nn.Module, scale: int, length: int, multiple: int, along_width: bool) -> int | None:
    """Input pixels between a block of NaN, `multiple` wide, and the furthest output that it turns NaN."""
    side = 2 * length + multiple
    start, stop = length, length + multiple
    picture = torch.full((1, 3, _round_up(_STRIP, multiple), side), 0.5)
    picture[..., start:stop] = torch.nan
    # The plain convolution touches exactly the pixels under its kernel; faster ones (Winograd) mix whole blocks.
    with torch.no_grad(), _plain_convolutions():
        output = probe(picture if along_width else picture.mT.contiguous())
    touched = output.isnan().flatten(0, 1).any(0).any(0 if along_width else 1).nonzero().flatten()
    if not len(touched):
        return 0
    first, last = int(touched.min()) // scale, int(touched.max()) // scale
    if first == 0 or last == side - 1:
        return None
    return max(start - first, last - (stop - 1), 0)


def _cut_errors(probe: nn.Module, scale: int, length: int, multiple: int, along_width: bool) -> Tensor:
    """Largest differences at each input pixel's distance from a cut, (length,), relative to outputs above one.

    A random strip is run whole and as its two parts; the distance counts away from the cut in either part.
    """
    cut = (length // multiple | 1) * multiple
    total = cut + _round_up(length, multiple)
    picture = torch.rand(1, 3, _round_up(_STRIP, multiple), total, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, before, after = (
            _upright(probe(part if along_width else part.mT.contiguous()), along_width)
            for part in (picture, picture[..., :cut], picture[..., cut:])
        )
    middle = cut * scale
    left = (before - whole[..., :middle]).abs().flatten(0, 2).amax(0).flip(0)
    right = (after - whole[..., middle:]).abs().flatten(0, 2).amax(0)
    shared = min(cut, total - cut)
    errors = torch.maximum(left[: shared * scale], right[: shared * scale])
    return errors.reshape(shared, scale).amax(1) / whole.abs().amax().clamp(min=1)


def _upright(output: Tensor, along_width: bool) -> Tensor:
    return output if along_width else output.mT


@contextlib.contextmanager
def _plain_convolutions() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # says that it knows no Intel GPU
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _cpu_copy(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).to("cpu", torch.float32).eval()


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
