"""Reading picture files of any mode as RGB; and, by re-export, writing them.

Pillow reads 8-bit files, and the colour profile and EXIF of all; `deep_decoding` reads the pixels of 16-bit ones. Both
work on bytes in memory, so any path that the system accepts is fine.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from mvmsr.data.deep_decoding import BROKEN, decode_16_bit, is_16_bit
from mvmsr.data.image_limits import MAX_PIXELS, check_pixels, file_bytes, opened
from mvmsr.data.image_writing import WRITE_SUFFIXES, write_picture, write_rgb
from mvmsr.data.picture import IMAGE_SUFFIXES, ImageError, Picture, of_channels

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "WRITE_SUFFIXES",
    "ImageError",
    "Picture",
    "image_size",
    "read_picture",
    "read_rgb",
    "write_picture",
    "write_rgb",
]

log = logging.getLogger(__name__)

_ORIENTATION, _WIDTH, _LENGTH = 0x0112, 256, 257
_STRIP_PIXELS = 2**22
_COUNTED_BYTES = 2**18


def read_rgb(path: str | Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB: grey repeated, alpha laid over white, 16 bits rounded to 8, upright.

    Raises:
        ImageError: the file is missing, unreadable, truncated, animated or holds 32-bit values.
    """
    return read_picture(path).over_white().as_8_bit().rgb


def image_size(path: str | Path, max_pixels: int | None = None) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header alone.

    Args:
        max_pixels: see `read_picture`.

    Raises:
        ImageError: the file is missing, its header cannot be read, or it declares too many pixels.
    """
    with _named_errors(path), Path(path).open("rb") as file:
        length = file_bytes(path, max_pixels)
        with opened(file) as image:
            check_pixels(path, image.size, length, max_pixels)
            width, height = _stored_size(image)
            return (width, height) if _orientation(image) >= 5 else (height, width)


def read_picture(path: str | Path, max_pixels: int | None = None) -> Picture:
    """A picture with its depth (8 or 16 bits), transparency, colour profile and EXIF.

    CMYK and other colour spaces become RGB, through their embedded profile where they have one. Metadata that cannot be
    read is left out.

    Args:
        max_pixels: the most that a file may declare; None for `MAX_PIXELS`, and a refusal of large pictures in files
            too small to hold them, whose only use is to fill the memory.

    Raises:
        ImageError: the file is missing, unreadable, truncated, animated, too large, or holds 32-bit values.
    """
    with _named_errors(path):
        length = file_bytes(path, max_pixels)
        data = Path(path).read_bytes()
        with opened(io.BytesIO(data)) as image:
            check_pixels(path, image.size, length, max_pixels)
            if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a JPEG with a preview behind it
                raise ImageError(
                    path, f"holds {_frames(image, length)} frames", "extract the frames into single images first"
                )
            deep = is_16_bit(image, data)
            if image.mode == "F" or (image.mode == "I" and not deep):
                raise ImageError(path, "holds 32-bit values", "convert it to a 16-bit PNG or TIFF first")
            icc_profile = image.info.get("icc_profile")
            if deep:
                orientation = _orientation(image)
                exif = _upright_exif(image)
                pixels, is_upright = decode_16_bit(path, image, data)
                orientation = 1 if is_upright else orientation
            else:
                image.load()
                orientation = _orientation(image)  # Pillow turns a TIFF by itself, and then says so
                exif = _upright_exif(image)
                pixels, icc_profile = decode_8_bit(image, icc_profile)
    return of_channels(_turn_upright(pixels, orientation), icc_profile, exif)


@contextmanager
def _named_errors(path: str | Path) -> Iterator[None]:
    """Turn the many errors of Pillow and OpenCV into one that names the file."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(path, "is not an image in a known format, or is damaged", BROKEN) from error
    except Image.DecompressionBombError as error:
        raise ImageError(path, "is too large to be decoded safely", "cut it into parts first") from error
    except MemoryError as error:
        raise ImageError(path, "does not fit into the memory", "cut it into parts first") from error
    except Exception as error:  # decoders raise whatever they stumble over; they share no other base class
        if isinstance(error, OSError) and error.strerror is not None:
            raise ImageError(path, f"cannot be read ({error.strerror})", "check the path and its rights") from error
        raise ImageError(path, f"is truncated or damaged ({str(error)[:200]})", BROKEN) from error


def _frames(image: Image.Image, length: int) -> str:
    """How many frames there are; in a long file only as far as the header says, since counting means walking it."""
    walked = image.format in ("GIF", "TIFF") and length > _COUNTED_BYTES
    return "several" if walked else str(getattr(image, "n_frames", "several"))


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before turning; Pillow gives that of an upright TIFF, in newer releases."""
    if image.format != "TIFF":
        return image.size
    tags = image.tag_v2  # type: ignore[attr-defined]
    return int(tags[_WIDTH]), int(tags[_LENGTH])


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is known before the pixels are decoded; 1 where there is no sense in it."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole picture to look for EXIF behind its pixels
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # EXIF is parsed by Python code that takes damaged blocks at their word
        log.info("the EXIF block cannot be read (%s)", error)
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def decode_8_bit(image: Image.Image, icc_profile: bytes | None) -> tuple[np.ndarray, bytes | None]:
    """(H, W, C) uint8 of any mode of 8 bits, C as for `of_channels`; the profile that still applies to it."""
    grey = image.mode in ("1", "L", "LA", "La")
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        # CMYK, LAB, YCbCr, HSV: the profile describes that space, not the RGB that we make of it.
        image, icc_profile = _to_srgb(image, icc_profile), None
    mode = ("LA" if has_alpha else "L") if grey else ("RGBA" if has_alpha else "RGB")
    return _as_array(image, mode), icc_profile


def _as_array(image: Image.Image, mode: str) -> np.ndarray:
    """(H, W, C) uint8 of the picture in that mode, strip by strip: a conversion as a whole would hold it four times."""
    width, height = image.size
    pixels = np.empty((height, width, len(mode)), np.uint8)
    rows = max(_STRIP_PIXELS // max(width, 1), 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        strip = strip if strip.mode == mode else strip.convert(mode)
        pixels[top:bottom] = np.asarray(strip).reshape(bottom - top, width, -1)
    return pixels


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """RGB of CMYK, LAB, YCbCr or HSV, through its profile where that works."""
    if icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except Exception as error:  # of a damaged profile, from several libraries
            log.warning("the embedded colour profile cannot be used (%s); converting %s plainly", error, image.mode)
    return image.convert("RGB")


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1 to 8) of an (H, W, C) array."""
    if orientation >= 5:  # 5 to 8 are 1, 4, 3, 2 ... of the transposed picture
        pixels = pixels.swapaxes(0, 1)
        orientation = {5: 1, 6: 2, 7: 3, 8: 4}.get(orientation, 1)
    flips = {2: (1, -1), 3: (-1, -1), 4: (-1, 1)}
    vertical, horizontal = flips.get(orientation, (1, 1))
    return pixels[::vertical, ::horizontal]


def _upright_exif(image: Image.Image) -> bytes | None:
    """The EXIF block with its orientation reset; None where there is none, or none that can be read."""
    if "exif" not in image.info:
        return None
    if _orientation(image) == 1:
        return image.info["exif"]
    try:
        exif = image.getexif()
        exif[_ORIENTATION] = 1
        return exif.tobytes()
    except Exception as error:  # see _orientation
        log.info("the EXIF block cannot be kept (%s)", error)
        return None
