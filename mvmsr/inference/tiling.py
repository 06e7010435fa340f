"""Large pictures in tiles, with the result of the whole.

A tile's *core* is what it is responsible for. It *keeps* its core and `blend` pixels more, where it fades into its
neighbours, and it *reads* `halo` pixels beyond that, whose outputs are thrown away because the cut falsifies them. At
the picture's own borders nothing is read beyond, so that the network pads there as it would for the whole picture.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mvmsr.inference.memory import MIN_TILE, is_out_of_memory, release_memory, round_down

logger = logging.getLogger(__name__)

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in input pixels; each pair is [start, stop) and contains the pair before it."""

    core: tuple[int, int]
    keep: tuple[int, int]
    read: tuple[int, int]


def plan_spans(length: int, tile: int, halo: int, blend: int = 0, multiple: int = 1) -> list[Span]:
    """Cuts an axis into cores of about equal length, at most `tile` long (rounded to `multiple`).

    Args:
        halo: pixels read beyond what is kept.
        blend: pixels kept beyond the core; limited to half a core, so that at most two tiles overlap anywhere.
        multiple: cores and reads start at multiples of it.

    Raises:
        ValueError: `length` or `tile` is not positive, or `halo`, `blend` or `multiple` is out of range.

    >>> [span.read for span in plan_spans(10, 5, halo=2)]
    [(0, 7), (3, 10)]
    """
    if length < 1 or tile < 1 or halo < 0 or blend < 0 or multiple < 1:
        raise ValueError(
            "length, tile and multiple must be positive, halo and blend not negative; "
            f"got {length}, {tile}, {multiple}, {halo}, {blend}"
        )
    count = -(-length // tile)
    cuts = sorted({0, length, *(round(i * length / count / multiple) * multiple for i in range(1, count))})
    cuts = [cut for cut in cuts if cut <= length]
    cores = list(itertools.pairwise(cuts))
    blend = min(blend, min(stop - start for start, stop in cores) // 2)
    spans = []
    for start, stop in cores:
        keep = max(start - blend, 0), min(stop + blend, length)
        first = (keep[0] - halo) // multiple * multiple
        last = -(-(keep[1] + halo) // multiple) * multiple
        spans.append(Span((start, stop), keep, (max(first, 0), min(last, length))))
    return spans


def fade(span: Span, length: int, scale: int) -> Tensor:
    """Weights of a tile's kept outputs along one axis, (kept*scale,): ramps at inner cuts, one elsewhere.

    The weights of all spans of a plan sum to one at every output pixel.
    """
    (start, stop), (first, last) = span.core, span.keep
    weights = torch.ones((last - first) * scale)
    before, after = 2 * (start - first) * scale, 2 * (last - stop) * scale
    if first > 0 and before:
        weights[:before] = (torch.arange(before) + 0.5) / before
    if last < length and after:
        weights[-after:] = 1 - (torch.arange(after) + 0.5) / after
    return weights


def run_bands(
    run: Run,
    lq: Tensor,
    scale: int,
    tile: int,
    halo: int,
    blend: int = 0,
    multiple: int = 1,
    on_pixels: Callable[[int], object] | None = None,
) -> Iterator[Tensor]:
    """Runs a network tile by tile and yields finished rows of the result, from the top, float32 on the CPU.

    A tile for which memory does not suffice is cut in two along each axis, and so are those after it.

    Args:
        run: (1, C, h, w) -> (1, C, h*scale, w*scale).
        lq: (1, C, H, W).
        on_pixels: told the number of input pixels done, after each tile.

    Yields:
        (1, C, rows, W*scale).

    Raises:
        MemoryError: even the smallest useful tile does not fit.
    """
    return _Tiles(run, scale, halo, blend, multiple).bands(lq, tile, on_pixels)


def run_tiled(run: Run, lq: Tensor, scale: int, tile: int, halo: int, blend: int = 0, multiple: int = 1) -> Tensor:
    """The whole result of `run_bands`, (1, C, H*scale, W*scale), float32 on the CPU."""
    return torch.cat(list(run_bands(run, lq, scale, tile, halo, blend, multiple)), dim=-2)


class _Tiles:
    """Runs a network tile by tile; remembers which size of tile did not fit into memory."""

    def __init__(self, run: Run, scale: int, halo: int, blend: int, multiple: int) -> None:
        self.run, self.scale, self.halo, self.blend, self.multiple = run, scale, halo, blend, multiple
        self.too_large: int | None = None

    def bands(self, lq: Tensor, tile: int, on_pixels: Callable[[int], object] | None = None) -> Iterator[Tensor]:
        """See `run_bands`."""
        height, width = lq.shape[-2:]
        scale = self.scale
        rows, columns = (plan_spans(n, tile, self.halo, self.blend, self.multiple) for n in (height, width))
        rest: Tensor | None = None
        for index, row in enumerate(rows):
            band: Tensor | None = None
            for column in columns:
                piece = _kept(self._fitting(lq[..., slice(*row.read), slice(*column.read)]), row, column, scale)
                if band is None:
                    band = torch.zeros(*piece.shape[:2], (row.keep[1] - row.keep[0]) * scale, width * scale)
                if self.blend:
                    piece = piece * fade(row, height, scale)[:, None] * fade(column, width, scale)
                band[..., column.keep[0] * scale : column.keep[1] * scale] += piece
                if on_pixels is not None:
                    on_pixels((row.core[1] - row.core[0]) * (column.core[1] - column.core[0]))
            assert band is not None
            if rest is not None:
                band[..., : rest.shape[-2], :] += rest
            last = index == len(rows) - 1
            done = ((height if last else rows[index + 1].keep[0]) - row.keep[0]) * scale
            rest = band[..., done:, :].clone()
            yield band[..., :done, :]

    def _fitting(self, region: Tensor) -> Tensor:
        """The result of a region, in parts if it does not fit."""
        side = max(region.shape[-2:])
        reason = ""
        if self.too_large is None or side < self.too_large:
            try:
                return self.run(region).float().cpu()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            # Outside the handler: the exception kept the failed tile's tensors alive.
            self.too_large = side
            release_memory()
        margin = 2 * (self.halo + self.blend)
        core = round_down(max(side // 2 - margin, MIN_TILE), self.multiple)
        if core + margin >= side:
            raise MemoryError(
                f"a tile of {side} x {side} pixels does not fit into memory, and the network needs {margin // 2} "
                f"pixels around each; free memory, or use another device ({reason or 'out of memory'})"
            )
        if reason:
            logger.warning("out of memory at a tile of %d pixels; continuing with %d", side, core)
        return torch.cat(list(self.bands(region, core)), dim=-2)


def _kept(piece: Tensor, row: Span, column: Span, scale: int) -> Tensor:
    top, left = (row.keep[0] - row.read[0]) * scale, (column.keep[0] - column.read[0]) * scale
    height, width = (row.keep[1] - row.keep[0]) * scale, (column.keep[1] - column.keep[0]) * scale
    return piece[..., top : top + height, left : left + width]
