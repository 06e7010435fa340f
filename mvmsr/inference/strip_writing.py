"""Picture files written strip by strip, so that a large result is never held whole: PNG and TIFF, 8 and 16 bits.

Pillow and OpenCV need all pixels before they write the first one; these two formats do not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mvmsr.data.image_writing import written_aside
from mvmsr.data.png_chunks import chunk, metadata_chunks

STRIP_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
_LEVEL = 4
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
_ROWS = 32
_JUDGED = 8
_SUB, _UP, _PAETH = 1, 2, 4


@dataclass(frozen=True)
class Layout:
    """What a file's header says.

    Attributes:
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        dtype: uint8 or uint16.
        icc_profile: of the colour space of these channels.
        exif: raw block; only PNG keeps it.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype
    icc_profile: bytes | None = None
    exif: bytes | None = None


def write_strips(path: str | Path, layout: Layout, strips: Iterable[np.ndarray]) -> None:
    """Writes strips (rows, width, channels), from the top, of any height, as a file that appears whole or not at all.

    Raises:
        ImageError: the folder cannot be written to, or there is no room.
        ValueError: the suffix is of another format, or the strips do not make up the layout.
    """
    path = Path(path)
    if path.suffix.lower() not in STRIP_SUFFIXES:
        raise ValueError(f"{path}: only {', '.join(sorted(STRIP_SUFFIXES))} are written in strips")
    encode = _write_png if path.suffix.lower() == ".png" else _write_tiff
    with written_aside(path) as file:
        encode(file, layout, _checked(layout, strips))


def _checked(layout: Layout, strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    rows = 0
    for strip in strips:
        if strip.shape[1:] != (layout.width, layout.channels) or strip.dtype != layout.dtype:
            expected = f"(rows, {layout.width}, {layout.channels}) {layout.dtype}"
            raise ValueError(f"expected strips {expected}, got {strip.shape} {strip.dtype}")
        rows += len(strip)
        yield strip
    if rows != layout.height:
        raise ValueError(f"expected {layout.height} rows, got {rows}")


def _write_png(file: BinaryIO, layout: Layout, strips: Iterator[np.ndarray]) -> None:
    file.write(b"\x89PNG\r\n\x1a\n")
    bits = 8 * layout.dtype.itemsize
    header = struct.pack(">IIBBBBB", layout.width, layout.height, bits, _PNG_COLOUR[layout.channels], 0, 0, 0)
    file.write(chunk(b"IHDR", header) + metadata_chunks(layout.icc_profile, layout.exif))
    packer = zlib.compressobj(_LEVEL)
    pixel = layout.channels * layout.dtype.itemsize
    above = np.zeros(layout.width * pixel, np.uint8)
    for strip in strips:
        rows = strip.astype(layout.dtype.newbyteorder(">"), copy=False)
        rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(strip), -1)
        for start in range(0, len(rows), _ROWS):  # the filters' temporaries are several times a part's size
            part = rows[start : start + _ROWS]
            packed = packer.compress(_filtered(part, above, pixel).tobytes())
            above = part[-1].copy()
            if packed:
                file.write(chunk(b"IDAT", packed))
    file.write(chunk(b"IDAT", packer.flush()))
    file.write(chunk(b"IEND", b""))


def _filtered(rows: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    """Rows behind the number of the filter (Sub, Up or Paeth) whose sum of absolute differences is least.

    One filter for all of them, judged by some: trying each on every row took longer than the compression.

    Source: Portable Network Graphics Specification (W3C), section 9.
    """
    up = np.vstack([above[None], rows[:-1]])
    sample = slice(None, None, _JUDGED)

    def cost(number: int) -> int:
        return int(np.abs(_differences(number, rows[sample], up[sample], pixel).view(np.int8).astype(np.int16)).sum())

    best = min((_SUB, _UP, _PAETH), key=cost)
    out = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    out[:, 0] = best
    out[:, 1:] = _differences(best, rows, up, pixel)
    return out


def _differences(number: int, rows: np.ndarray, up: np.ndarray, pixel: int) -> np.ndarray:
    """Bytes less what a filter guesses from those to the left, above, and above to the left; modulo 256."""
    if number == _UP:
        return rows - up
    left = np.zeros_like(rows)
    left[:, pixel:] = rows[:, :-pixel]
    if number == _SUB:
        return rows - left
    a, b, c = left.astype(np.int16), up.astype(np.int16), np.zeros(up.shape, np.int16)
    c[:, pixel:] = up[:, :-pixel]
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    is_left = (to_left <= to_up) & (to_left <= to_corner)
    return rows - np.where(is_left, left, np.where(to_up <= to_corner, up, c.astype(np.uint8)))


def _write_tiff(file: BinaryIO, layout: Layout, strips: Iterator[np.ndarray]) -> None:
    import tifffile

    shape = (layout.height, layout.width, layout.channels)
    with tifffile.TiffWriter(file, byteorder="<", bigtiff=_bytes_of(layout) > 2**32 - 2**25) as writer:
        writer.write(
            (zlib.compress(part.tobytes(), _LEVEL) for part in _rows_of(_ROWS, strips)),
            shape=shape if layout.channels > 1 else shape[:2],
            dtype=layout.dtype.newbyteorder("<"),
            photometric="rgb" if layout.channels >= 3 else "minisblack",
            planarconfig="contig" if layout.channels > 1 else None,
            extrasamples=("unassalpha",) if layout.channels in (2, 4) else None,
            compression="adobe_deflate",
            rowsperstrip=_ROWS,
            iccprofile=layout.icc_profile,
            metadata=None,
            software=False,
        )


def _bytes_of(layout: Layout) -> int:
    return layout.height * layout.width * layout.channels * layout.dtype.itemsize


def _rows_of(count: int, strips: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in strips of `count`, the last one shorter."""
    rest: np.ndarray | None = None
    for strip in strips:
        rows = strip if rest is None else np.concatenate([rest, strip])
        whole = len(rows) // count * count
        for start in range(0, whole, count):
            yield np.ascontiguousarray(rows[start : start + count])
        rest = rows[whole:].copy() if whole < len(rows) else None
    if rest is not None:
        yield rest
