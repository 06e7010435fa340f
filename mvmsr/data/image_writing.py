"""Writing picture files, with what their sources carried: depth, transparency, colour profile, EXIF.

A file appears complete or not at all: it is written aside, then renamed.
"""

from __future__ import annotations

import io
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, features

from mvmsr.data.picture import ImageError, Picture
from mvmsr.data.png_chunks import metadata_chunks

log = logging.getLogger(__name__)

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
if features.check("avif"):  # not every build of Pillow has it
    _FORMATS[".avif"] = "AVIF"
WRITE_SUFFIXES = frozenset(_FORMATS)


def write_rgb(path: str | Path, array: np.ndarray) -> None:
    """Write (H, W, 3) uint8 or uint16 RGB; the suffix chooses the format. See `write_picture`."""
    write_picture(path, Picture(array))


def write_picture(path: str | Path, picture: Picture, quality: int = 95) -> None:
    """Write a picture; the suffix chooses the format. The file appears complete or not at all.

    PNG, TIFF, WebP and AVIF keep alpha; JPEG and BMP have none, so the picture is laid over white (with a warning).
    PNG and TIFF hold 16 bits. A picture that was grey is written with one channel where the format allows.

    Args:
        quality: 1 to 100, of JPEG, WebP and AVIF.

    Raises:
        ImageError: the format is unknown or cannot hold 16 bits, or the file cannot be written.
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ImageError(path, f"cannot write {path.suffix or 'a file without suffix'}", f"use {_listed(_FORMATS)}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    if picture.rgb.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        raise ImageError(path, f"{kind} cannot hold 16 bits", "choose .png or .tif, or convert to 8 bits first")
    if picture.alpha is not None and kind in ("JPEG", "BMP"):
        log.warning("%s: %s has no transparency; the image is laid over white (choose .png to keep it)", path, kind)
        picture = picture.over_white()
    encode = _encode_16_bit if picture.rgb.dtype == np.uint16 else _encode_8_bit
    data = encode(path, picture, kind, quality)
    with written_aside(path) as file:
        file.write(data)


def _listed(suffixes: dict[str, str]) -> str:
    return ", ".join(sorted(suffixes))


def _encode_8_bit(path: Path, picture: Picture, kind: str, quality: int) -> bytes:
    pixels = picture.rgb
    if picture.grey and kind not in ("WEBP", "AVIF"):
        pixels = _one_channel(pixels)
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    options: dict[str, object] = {}
    if kind in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = quality
    if kind == "JPEG":
        options["subsampling"] = 0 if quality >= 90 else 2
    if kind == "PNG":
        options["compress_level"] = 4
    if kind == "TIFF":
        options["compression"] = "tiff_adobe_deflate"
    if kind != "BMP":
        if picture.icc_profile and _profile_fits(picture, grey=pixels.ndim == 2 or pixels.shape[2] <= 2):
            options["icc_profile"] = picture.icc_profile
        if picture.exif and kind != "TIFF":  # in a TIFF the tags are the file's own structure
            options["exif"] = picture.exif
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise ImageError(path, f"{kind} cannot hold this image ({error})", "choose .png") from error
    return buffer.getvalue()


def _encode_16_bit(path: Path, picture: Picture, kind: str, quality: int) -> bytes:
    pixels = picture.rgb[..., ::-1]
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    elif picture.grey:
        pixels = _one_channel(picture.rgb)
    done, encoded = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(pixels))
    if not done:
        raise ImageError(path, f"cannot be encoded as 16-bit {kind}", "choose .png")
    data = encoded.tobytes()
    if kind == "PNG":
        return _with_metadata(
            data, picture.icc_profile if _profile_fits(picture, grey=pixels.ndim == 2) else None, picture.exif
        )
    if picture.icc_profile or picture.exif:
        log.warning("%s: a 16-bit TIFF is written without its colour profile and EXIF; choose .png to keep them", path)
    return data


def _one_channel(rgb: np.ndarray) -> np.ndarray:
    """(H, W): the mean of the channels, which is any of them where they agree."""
    return ((rgb.astype(np.uint32).sum(axis=2) + 1) // 3).astype(rgb.dtype)


def _profile_fits(picture: Picture, grey: bool) -> bool:
    """Whether the profile's colour space (bytes 16 to 20 of its header) is that of the pixels as written."""
    space = (picture.icc_profile or b"")[16:20]
    return space == (b"GRAY" if grey else b"RGB ")


def _with_metadata(png: bytes, icc_profile: bytes | None, exif: bytes | None) -> bytes:
    """Put a colour profile and EXIF into an encoded PNG, behind its header chunk."""
    header_end = 8 + 4 + 4 + 13 + 4  # signature, then the header's length, name, body and checksum
    return png[:header_end] + metadata_chunks(icc_profile, exif) + png[header_end:]


@contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file beside the target that replaces it when all went well, and vanishes otherwise.

    Raises:
        ImageError: the folder cannot be written to, or there is no room.
    """
    aside = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            yield file
        os.replace(aside, path)
    except OSError as error:
        cause = f"cannot be written ({error.strerror or error})"
        raise ImageError(path, cause, "check the folder's rights and free space") from error
    finally:  # an interrupt, too, leaves nothing
        with suppress(OSError):  # renamed, or its folder is none
            aside.unlink()
