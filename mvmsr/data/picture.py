"""What a picture file holds, in the form in which we compute on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".avif"})
"""Suffixes, in lower case, of the files that count as pictures in a folder."""


_BAND_PIXELS = 2**20


class ImageError(ValueError):
    """A picture that cannot be read or written; the message names the file, the cause and the remedy."""

    def __init__(self, path: str | Path, cause: str, remedy: str) -> None:
        super().__init__(f"{path}: {cause}; {remedy}")
        self.path, self.cause, self.remedy = Path(path), cause, remedy

    def __reduce__(self) -> tuple[type[ImageError], tuple[Path, str, str]]:
        return type(self), (self.path, self.cause, self.remedy)


@dataclass(frozen=True)
class Picture:
    """One picture with what must survive its restoration.

    Attributes:
        rgb: (H, W, 3), uint8 or uint16, full range of its dtype; upright (an EXIF orientation has been applied).
        alpha: (H, W) of the same dtype, not premultiplied; None where the file has no transparency.
        grey: the file holds one channel; `rgb` repeats it.
        icc_profile: the embedded colour profile that `rgb` (or its grey channel) is to be read by.
        exif: raw EXIF block, with its orientation reset to upright.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or 0 in self.rgb.shape:
            raise ValueError(f"rgb must be (H, W, 3), got {self.rgb.shape}")
        if self.rgb.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"rgb must be uint8 or uint16, got {self.rgb.dtype}; scale and round it first")
        alpha, side, dtype = self.alpha, self.rgb.shape[:2], self.rgb.dtype
        if alpha is not None and (alpha.shape != side or alpha.dtype != dtype):
            raise ValueError(f"alpha must be {side} {dtype} like rgb, got {alpha.shape} {alpha.dtype}")

    def as_8_bit(self) -> Picture:
        """The same picture in uint8 (65535 -> 255, rounded)."""
        if self.rgb.dtype == np.uint8:
            return self
        alpha = None if self.alpha is None else _to_8_bit(self.alpha)
        return replace(self, rgb=_to_8_bit(self.rgb), alpha=alpha)

    def over_white(self) -> Picture:
        """The same picture without alpha, laid over white."""
        if self.alpha is None:
            return self
        limit = float(np.iinfo(self.rgb.dtype).max)
        laid = np.empty_like(self.rgb)
        for rows in _bands(laid):
            cover = self.alpha[rows, :, None] / limit
            laid[rows] = np.floor(self.rgb[rows] * cover + limit * (1 - cover) + 0.5).clip(0, limit)
        return replace(self, rgb=laid, alpha=None)


def of_channels(pixels: np.ndarray, icc_profile: bytes | None = None, exif: bytes | None = None) -> Picture:
    """The picture of (H, W, C), uint8 or uint16, with C 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    channels = pixels.shape[2]
    grey = channels <= 2
    rgb = np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels[..., :3]
    alpha = np.ascontiguousarray(pixels[..., -1]) if channels in (2, 4) else None
    return Picture(np.ascontiguousarray(rgb), alpha, grey, icc_profile, exif)


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    rounded = np.empty(values.shape, np.uint8)
    for rows in _bands(values):
        rounded[rows] = (values[rows].astype(np.uint32) * 255 + 32767) // 65535
    return rounded


def _bands(values: np.ndarray) -> Iterator[slice]:
    """Rows that together are all, in parts whose wide intermediate values take little memory."""
    step = max(_BAND_PIXELS // values.shape[1], 1)
    return (slice(top, top + step) for top in range(0, len(values), step))
