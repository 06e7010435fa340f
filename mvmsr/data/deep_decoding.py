"""Pixels of files with 16 bits a channel, which Pillow would cut to 8.

OpenCV decodes them, but takes what some files mean for granted: which end of the scale is white, whether channels lie
side by side or one after another, whether colours are multiplied by their alpha, what the largest value is. That is
looked up here, and mended.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mvmsr.data.picture import ImageError
from mvmsr.data.png_chunks import chunks_fit

WHITE = 65535
BROKEN = "replace the file or take it out of the folder"

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA_SAMPLES = 258, 262, 277, 284, 338
_WHITE_IS_ZERO, _GREY, _RGB, _CMYK = 0, 1, 2, 5
_SEPARATE = 2  # planes
_ASSOCIATED = 1  # alpha
_NETPBM_HEADER_BYTES = 4096


def is_16_bit(image: Image.Image, data: bytes) -> bool:
    """Whether a file that Pillow has opened holds 16 bits a channel."""
    if image.format == "PNG":
        return data[24] == 16  # the bit depth in the header; Pillow shows 16-bit RGB as plain RGB
    if image.format == "TIFF":
        bits = _tag(image, _BITS_PER_SAMPLE, 8)
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16
    if image.format == "PPM":
        return _largest_value(data) > 255
    return image.mode.startswith("I")


def decode_16_bit(path: str | Path, image: Image.Image, data: bytes) -> tuple[np.ndarray, bool]:
    """(H, W, C) uint16 with C 1 (grey), 2 (with alpha), 3 (RGB) or 4, and whether it has been turned upright.

    Raises:
        ImageError: the file is damaged, or holds what cannot be taken for grey or RGB.
    """
    if image.format == "TIFF":
        return _decode_tiff(path, image, data)
    if data.startswith(b"\x89PNG") and not chunks_fit(data):
        raise ImageError(path, "is truncated or damaged", BROKEN)
    pixels = _by_opencv(path, data)
    if image.format == "PNG":
        if data[25] == 4 and pixels.shape[2] == 4:  # the colour type in the header: grey with alpha
            pixels = pixels[..., [0, 3]]
        pixels = _with_transparent_colour(pixels, image.info.get("transparency"))
    if image.format == "PPM":
        largest = _largest_value(data)
        pixels = ((pixels.astype(np.uint32) * WHITE + largest // 2) // largest).clip(0, WHITE).astype(np.uint16)
    return pixels, False


def _decode_tiff(path: str | Path, image: Image.Image, data: bytes) -> tuple[np.ndarray, bool]:
    photometric, samples = _tag(image, _PHOTOMETRIC, _GREY), _tag(image, _SAMPLES, 1)
    if photometric not in (_WHITE_IS_ZERO, _GREY, _RGB):
        name = "CMYK" if photometric == _CMYK else f"photometric {photometric}"
        raise ImageError(path, f"holds 16-bit {name} values", "convert it to RGB first")
    one_by_one = samples > 1 and _tag(image, _PLANAR, 1) == _SEPARATE
    pixels = _planes(path, data) if one_by_one else _by_opencv(path, data)
    colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    if photometric == _WHITE_IS_ZERO:
        pixels = np.concatenate([WHITE - pixels[..., :colours], pixels[..., colours:]], axis=2)
    extra = _tag(image, _EXTRA_SAMPLES, ())
    if pixels.shape[2] > colours and (extra if isinstance(extra, tuple) else (extra,))[:1] == (_ASSOCIATED,):
        pixels = _divided_by_alpha(pixels)
    return pixels, not one_by_one  # OpenCV turns a TIFF by itself


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Colours as they are without their alpha, the last channel; those that are fully transparent stay as stored."""
    divided = pixels.copy()
    for row, alpha in zip(divided, pixels[..., -1:].astype(np.uint64), strict=True):
        colours = row[:, :-1].astype(np.uint64)  # NumPy 1 multiplies in 16 bits if only the factor has 64
        full = (colours * WHITE + alpha // 2) // np.maximum(alpha, 1)
        row[:, :-1] = np.where(alpha == 0, row[:, :-1], full.clip(0, WHITE))
    return divided


def _by_opencv(path: str | Path, data: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or not pixels.size:
        raise ImageError(path, "is truncated or damaged", BROKEN)
    if pixels.dtype != np.uint16:
        raise ImageError(path, f"holds {pixels.dtype} values", "convert it to a 16-bit PNG or TIFF first")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2])
    return pixels if order is None else pixels[..., order]


def _planes(path: str | Path, data: bytes) -> np.ndarray:
    """Of a TIFF whose channels lie one after another, which OpenCV scrambles."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pixels = file.pages[0].asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        cause = "holds its channels one after another, in a compression that is not known"
        raise ImageError(path, cause, "save it with interleaved channels, or without compression") from error
    return np.moveaxis(pixels, 0, 2)


def _with_transparent_colour(pixels: np.ndarray, colour: Any) -> np.ndarray:
    """With the alpha that a PNG means by one colour that is to be transparent."""
    if colour is None or pixels.shape[2] not in (1, 3):
        return pixels
    wanted = np.array(colour if isinstance(colour, tuple) else (colour,), np.uint16)
    alpha = np.where((pixels == wanted).all(axis=2, keepdims=True), 0, WHITE).astype(np.uint16)
    return np.concatenate([pixels, alpha], axis=2)


def _largest_value(data: bytes) -> int:
    """The value that means white in a PGM or PPM file; 255 where it has none of its own (PBM)."""
    fields = re.sub(rb"#[^\n]*", b"", data[:_NETPBM_HEADER_BYTES]).split(maxsplit=4)[:4]
    if len(fields) < 4 or fields[0] not in (b"P2", b"P3", b"P5", b"P6") or not fields[3].isdigit():
        return 255
    return int(fields[3])


def _tag(image: Image.Image, number: int, default: Any) -> Any:
    return image.tag_v2.get(number, default)  # type: ignore[attr-defined]
