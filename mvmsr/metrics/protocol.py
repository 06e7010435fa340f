"""What a PSNR or SSIM figure was measured on: colour, rounding, border and window, under one name.

Figures of different protocols are different quantities; RGB against luma alone is worth almost two dB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from mvmsr.color import rgb_to_y
from mvmsr.registry import did_you_mean


class ProtocolError(ValueError):
    """A protocol that does not exist or does not fit what is measured; the message says what does."""


@dataclass(frozen=True)
class Protocol:
    """How two pictures are compared.

    Attributes:
        name: what tables and files call it.
        color: compare luma or the three colour channels.
        round_y: luma rounded to whole levels (MATLAB on uint8), or kept fractional (BasicSR).
        crop_border: pixels left out at each side.
        scale: the magnification that the pictures were made with.
        ssim_window: SSIM where the whole window fits, or everywhere with zeros outside the picture.
        luma_first: take luma before anything is resized and quantise the final result only (bicubic only).
    """

    name: str
    color: Literal["y", "rgb"]
    round_y: bool
    crop_border: int
    scale: int
    ssim_window: Literal["valid", "zero_pad"] = "valid"
    luma_first: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Every field, for result files."""
        return asdict(self)

    def describe(self) -> str:
        """One line for table titles, as `y (luma, rounded, 4 px border cropped, x4)`."""
        color = "RGB"
        if self.color == "y":
            color = "luma, rounded" if self.round_y else "luma, unrounded"
        parts = [color, f"{self.crop_border} px border cropped" if self.crop_border else "no crop"]
        if self.ssim_window == "zero_pad":
            parts.append("zero-padded SSIM")
        if self.luma_first:
            parts.append("luma resized, unquantised between")
        return f"{self.name} ({', '.join(parts)}, x{self.scale})"


_MAKERS: dict[str, Callable[[int], Protocol]] = {
    "y": lambda scale: Protocol("y", "y", True, scale, scale),
    "y_float": lambda scale: Protocol("y_float", "y", False, scale, scale),
    "y_only": lambda scale: Protocol("y_only", "y", True, scale, scale, luma_first=True),
    "rgb": lambda scale: Protocol("rgb", "rgb", False, scale, scale),
    "rgb_zero_pad": lambda scale: Protocol("rgb_zero_pad", "rgb", False, 0, scale, "zero_pad"),
}
PROTOCOLS = tuple(_MAKERS)


def make_protocol(name: str, scale: int, crop_border: int | None = None) -> Protocol:
    """The protocol of that name for one scale; another border than its own shows in its name (`rgb_crop2`).

    - `y`: luma rounded to integers, `scale` pixels cropped (VDSR, NatSR). The default everywhere.
    - `y_float`: the same with unrounded luma (EDSR, RDN, BasicSR's `test_y_channel`).
    - `y_only`: rounded luma taken first, made small and large again without rounding between and clipped to [16, 235],
      grey files as they are (DRCN, VDSR; the published bicubic rows).
    - `rgb`: all three channels, `scale` pixels cropped.
    - `rgb_zero_pad`: all three channels, nothing cropped, SSIM windows padded with zeros.

    Raises:
        ProtocolError: no such protocol, a scale below 1, or a negative border.
    """
    if name not in _MAKERS:
        raise ProtocolError(f"unknown protocol {name!r}.{did_you_mean(name, PROTOCOLS)} Known: {', '.join(PROTOCOLS)}.")
    if scale < 1:
        raise ProtocolError(f"protocol {name!r}: scale is {scale}; it must be 1 or more")
    if crop_border is not None and crop_border < 0:
        raise ProtocolError(f"protocol {name!r}: crop_border is {crop_border}; it must be 0 or more")
    protocol = _MAKERS[name](scale)
    if crop_border is None or crop_border == protocol.crop_border:
        return protocol
    return replace(protocol, name=f"{name}_crop{crop_border}", crop_border=crop_border)


def planes(rgb: np.ndarray, protocol: Protocol) -> np.ndarray:
    """The values that the protocol compares.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (C, h, w) float64 in [0, 255], cropped; C is 1 for luma and 3 for RGB.

    Raises:
        ValueError: the shape is wrong, or cropping leaves nothing.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected an image (H, W, 3), got {rgb.shape}")
    cropped = crop(rgb, protocol.crop_border)
    if protocol.color == "y":
        return rgb_to_y(cropped, protocol.round_y)[None]
    return np.ascontiguousarray(cropped.transpose(2, 0, 1), dtype=np.float64)


def crop(image: np.ndarray, border: int) -> np.ndarray:
    """`image` (H, W, ...) without `border` pixels at each side.

    Raises:
        ValueError: nothing would be left.
    """
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        raise ValueError(f"an image of {width}x{height} has nothing left when {border} px are cropped at each side")
    return image[border : height - border, border : width - border]
