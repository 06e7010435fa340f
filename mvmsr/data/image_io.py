"""Reading picture files of any mode as RGB; and, by re-export, writing them.

Pillow reads 8-bit files, with their colour profiles and EXIF; OpenCV reads the 16-bit ones, which Pillow would cut to
8 bits. Both work on bytes in memory, so any path that the system accepts is fine.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from mvmsr.data.image_writing import WRITE_SUFFIXES, write_picture, write_rgb
from mvmsr.data.picture import IMAGE_SUFFIXES, ImageError, Picture

__all__ = [
    "IMAGE_SUFFIXES",
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

_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 258
_BROKEN = "replace the file or take it out of the folder"


def read_rgb(path: str | Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB: grey repeated, alpha laid over white, 16 bits rounded to 8, upright.

    Raises:
        ImageError: the file is missing, unreadable, truncated, animated or holds 32-bit values.
    """
    return read_picture(path).over_white().as_8_bit().rgb


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header alone.

    Raises:
        ImageError: the file is missing or its header cannot be read.
    """
    with _named_errors(path), _not_empty(path).open("rb") as file, Image.open(file) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def read_picture(path: str | Path) -> Picture:
    """A picture with its depth (8 or 16 bits), transparency, colour profile and EXIF.

    CMYK and other colour spaces become RGB, through their embedded profile where they have one.

    Raises:
        ImageError: the file is missing, unreadable, truncated, animated or holds 32-bit values.
    """
    with _named_errors(path):
        data = Path(path).read_bytes()
        if not data:
            raise ImageError(path, "is empty", _BROKEN)
        with Image.open(io.BytesIO(data)) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # MPO: a camera's JPEG with a preview behind it
                raise ImageError(path, f"holds {frames} frames", "extract the frames into single pictures first")
            is_16_bit = _is_16_bit(image, data)
            if image.mode == "F" or (image.mode == "I" and not is_16_bit):
                raise ImageError(path, "holds 32-bit values", "convert it to a 16-bit PNG or TIFF first")
            orientation = _orientation(image)
            exif = _upright_exif(image, orientation)
            icc_profile = image.info.get("icc_profile")
            if is_16_bit:
                pixels, grey = _decode_16_bit(path, data), False
            else:
                pixels, grey, icc_profile = _decode_8_bit(image, icc_profile)
    pixels = _turn_upright(pixels, orientation)
    channels = pixels.shape[2]
    grey = grey or channels <= 2
    rgb = np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels[..., :3]
    alpha = np.ascontiguousarray(pixels[..., -1]) if channels in (2, 4) else None
    return Picture(np.ascontiguousarray(rgb), alpha, grey, icc_profile, exif)


@contextmanager
def _named_errors(path: str | Path) -> Iterator[None]:
    """Turn the many errors of Pillow and OpenCV into one that names the file."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(path, "is not a picture in a known format, or is damaged", _BROKEN) from error
    except Image.DecompressionBombError as error:
        raise ImageError(path, "is too large to be decoded safely", "cut it into parts first") from error
    except (ValueError, SyntaxError, IndexError, EOFError, struct.error, zlib.error, cv2.error) as error:
        raise ImageError(path, f"is truncated or damaged ({error})", _BROKEN) from error
    except OSError as error:
        if error.strerror is None:  # Pillow's own, about the contents
            raise ImageError(path, f"is truncated or damaged ({error})", _BROKEN) from error
        raise ImageError(path, f"cannot be read ({error.strerror})", "check the path and its rights") from error


def _not_empty(path: str | Path) -> Path:
    if not Path(path).stat().st_size:
        raise ImageError(path, "is empty", _BROKEN)
    return Path(path)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is known before the pixels are decoded."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole picture to look for EXIF behind its pixels
    return int(image.getexif().get(_ORIENTATION, 1))


def _is_16_bit(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # the bit depth in the header; Pillow shows 16-bit RGB as plain RGB
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16
    return image.mode.startswith("I")  # 16-bit PGM and the like


def _decode_16_bit(path: str | Path, data: bytes) -> np.ndarray:
    """(H, W, C) uint16 with C 1, 3 or 4, RGB order."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(path, "is truncated or damaged", _BROKEN)
    if pixels.dtype != np.uint16:
        raise ImageError(path, f"holds {pixels.dtype} values", "convert it to a 16-bit PNG or TIFF first")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] == 3:
        return pixels[..., ::-1]
    if pixels.shape[2] == 4:
        return pixels[..., [2, 1, 0, 3]]
    return pixels


def _decode_8_bit(image: Image.Image, icc_profile: bytes | None) -> tuple[np.ndarray, bool, bytes | None]:
    """(H, W, C) uint8 with C 1, 2, 3 or 4; whether it is grey; the profile that still applies to it."""
    image.load()
    grey = image.mode in ("1", "L", "LA", "La")
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (
        "transparency" in image.info and image.mode in ("L", "P", "RGB")
    )
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        # CMYK, LAB, YCbCr, HSV: the profile describes that space, not the RGB that we make of it.
        image, icc_profile = _to_srgb(image, icc_profile), None
    mode = ("LA" if has_alpha else "L") if grey else ("RGBA" if has_alpha else "RGB")
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], -1), grey, icc_profile


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    if icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError) as error:
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


def _upright_exif(image: Image.Image, orientation: int) -> bytes | None:
    if orientation == 1:
        return image.info.get("exif")
    exif = image.getexif()
    exif[_ORIENTATION] = 1
    return exif.tobytes() if "exif" in image.info else None
