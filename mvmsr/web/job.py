"""One picture: from the uploaded file to the result and the two previews that are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mvmsr.data.image_io import Picture, image_size, read_picture, write_picture
from mvmsr.inference.resizing import cut, resize_strips
from mvmsr.inference.upscaler import BICUBIC, Upscaler
from mvmsr.web.limits import LARGEST_OUTPUT, Limits, Refused
from mvmsr.web.watch import Watch

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}
SCALES = (2, 3, 4, 8)
PREVIEW_SIDE = 4096
"""Previews are reduced to this: browsers show pictures of more pixels slowly, and phones not at all."""
_READ = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
_READ_NAMES = "PNG, JPEG, WebP, TIFF, BMP, GIF, PPM or AVIF"


@dataclass(frozen=True)
class Job:
    """What a visitor asks for.

    Attributes:
        source: the uploaded file.
        model: one of `Models.names`.
        scale: one of `SCALES`.
        format: one of `FORMATS`.
        quality: 1 to 100, of JPEG and WebP.
    """

    source: Path
    model: str
    scale: int = 4
    format: str = "PNG"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise Refused(f"scale must be one of {', '.join(map(str, SCALES))}, got {self.scale!r}")
        if self.format not in FORMATS:
            raise Refused(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if not 1 <= self.quality <= 100:
            raise Refused(f"quality must be 1 to 100, got {self.quality!r}")


@dataclass(frozen=True)
class Result:
    """What a visitor gets.

    Attributes:
        file: the result.
        before: preview of the bicubic enlargement.
        after: preview of the result, of the same size.
        width: of the result.
        height: of the result.
        notes: what the format could not keep, and how the previews differ from the result.
    """

    file: Path
    before: Path
    after: Path
    width: int
    height: int
    notes: tuple[str, ...]


def size_within(path: Path, scale: float, limits: Limits) -> tuple[int, int]:
    """(height, width) of an uploaded picture, from its header, if it is one that may be enlarged here.

    Raises:
        Refused: it is no picture, in a format that is not read, or too large.
        ImageError: its header is damaged.
    """
    try:
        # Pillow's other readers are for formats that call for other programs, or for none of our business.
        Image.init()
        with Image.open(path, formats=[name for name in _READ if name in Image.OPEN]):
            pass
    except UnidentifiedImageError as error:
        raise Refused(f"{path.name} is not an image, or is damaged; give a {_READ_NAMES} file.") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"{path.name} is far too large; reduce or crop it first.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise Refused(f"{path.name} is damaged; save it again, or give another file.") from error
    height, width = image_size(path)
    limits.check_size(path.name, height, width, scale)
    return height, width


def run_job(job: Job, upscaler: Upscaler, folder: Path, watch: Watch, max_pixels: int) -> Result:
    """Enlarges a picture exactly as `mvmsr upscale` does, into `folder`.

    Args:
        max_pixels: of the input; the result has at most `LARGEST_OUTPUT` times as many.

    Raises:
        ImageError: a file cannot be read or written, or the format cannot hold the result.
        Stopped: the watch says so.
    """
    picture = read_picture(job.source, max_pixels)
    file = folder / f"{job.source.stem}_x{job.scale}{FORMATS[job.format]}"
    with watch.over(upscaler.restorer.module if upscaler.restorer else None):
        upscaler.upscale_to(picture, file, watch.advance, job.quality)
    watch.check()
    result = read_picture(file, max_pixels * LARGEST_OUTPUT).as_8_bit()
    height, width = result.rgb.shape[:2]
    watch.check()
    factor = min(PREVIEW_SIDE / max(height, width), 1.0)
    small = picture.as_8_bit() if result.alpha is not None else picture.as_8_bit().over_white()
    bicubic = Upscaler(BICUBIC, outscale=job.scale * factor)
    size = bicubic.size_of(*picture.rgb.shape[:2])
    before = _preview(bicubic.upscale(small, lambda _pixels: watch.check()), folder, "before")
    after = _preview(_reduced(result, size), folder, "after")
    return Result(file, before, after, width, height, tuple(_notes(picture, job.format, factor)))


def _reduced(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.rgb.shape[:2] == size:
        return picture
    alpha = None if picture.alpha is None else _resized(picture.alpha, size)
    return replace(picture, rgb=_resized(picture.rgb, size), alpha=alpha)


def _resized(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) in that size; in strips, as a large result as floating point would fill the memory."""
    strips = resize_strips(cut(levels), levels.shape[:2], size)  # type: ignore[arg-type]
    return np.concatenate([(strip + 0.5).clip(0, 255).astype(np.uint8) for strip in strips])


def _preview(picture: Picture, folder: Path, name: str) -> Path:
    """JPEG takes a tenth of PNG's time and bytes; at this quality its traces are invisible beside what is compared."""
    path = folder / f"{name}.{'jpg' if picture.alpha is None else 'png'}"
    write_picture(path, replace(picture, exif=None), quality=97)
    return path


def _notes(picture: Picture, format_: str, factor: float) -> list[str]:
    notes = []
    if format_ != "PNG" and picture.rgb.dtype != np.uint8:
        notes.append(f"{format_} holds 8 of its 16 bits; choose PNG to keep them.")
    if format_ == "JPEG" and picture.alpha is not None:
        notes.append("JPEG has no transparency: it is laid over white; choose PNG or WebP to keep it.")
    if factor < 1:
        notes.append(f"The comparison is reduced to {factor:.0%}; the download is not.")
    return notes
