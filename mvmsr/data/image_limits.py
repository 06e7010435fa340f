"""How many pixels a file may declare before anything is decoded."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from mvmsr.data.picture import ImageError

MAX_PIXELS = 2**28
"""What a picture may have where nobody says otherwise: 16384 x 16384."""

_SMALL_PIXELS = 2**25
_PIXELS_PER_BYTE = 2**9  # a white RGB picture of PNG has 344, the most of 8 bits there is
_BYTES_PER_PIXEL = 16  # four channels of 16 bits, and as much again for what comes with them
_opening = threading.Lock()


@contextmanager
def opened(file: BinaryIO) -> Iterator[Image.Image]:
    """Pillow's picture of an open file, without Pillow's limit: it warns of what is fine here, and knows no other size.

    The limit belongs to the process, so it is lifted for no longer than the header takes; the caller checks the size
    by `check_pixels` before it decodes.
    """
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def check_pixels(path: str | Path, size: tuple[int, int], length: int, max_pixels: int | None) -> None:
    """Refuses what a header declares.

    Args:
        size: (width, height).
        length: bytes of the file.
        max_pixels: the limit; with None it is `MAX_PIXELS`, and a large picture needs bytes to be made of.

    Raises:
        ImageError: too many pixels, or far more than such a file can hold.
    """
    width, height = size
    pixels, limit = width * height, MAX_PIXELS if max_pixels is None else max_pixels
    if pixels > limit:
        cause = f"declares {width}x{height} pixels, more than the limit of {limit:,}"
        raise ImageError(path, cause, "cut it into parts, or raise the limit (--max-pixels) if the memory is there")
    if max_pixels is None and pixels > max(_SMALL_PIXELS, length * _PIXELS_PER_BYTE):
        cause = f"declares {width}x{height} pixels in {length:,} bytes, as files do that are made to fill the memory"
        raise ImageError(path, cause, "if you trust it, allow that many by --max-pixels")


def file_bytes(path: str | Path, max_pixels: int | None) -> int:
    """The length of a file that may be read into the memory.

    Raises:
        ImageError: it is empty, no regular file, or longer than a picture of `max_pixels` can be.
        OSError: there is no such file, or it is a folder.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(path, "is no regular file", "name an image file")
    if not found.st_size:
        raise ImageError(path, "is empty", "replace the file or take it out of the folder")
    if found.st_size > (limit := _BYTES_PER_PIXEL * max(max_pixels or MAX_PIXELS, 2**20)):
        cause = f"has {found.st_size / 2**30:.1f} GiB, more than any image within the limit ({limit / 2**30:.1f} GiB)"
        raise ImageError(path, cause, "cut it into parts, or raise the limit (--max-pixels)")
    return found.st_size
