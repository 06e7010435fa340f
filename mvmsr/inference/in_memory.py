"""Pictures that are in memory already, as arrays or Pillow's images, to our `Picture` and back."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from mvmsr.data.image_io import decode_8_bit
from mvmsr.data.picture import Picture, of_channels


def picture_of_array(image: np.ndarray) -> Picture:
    """(H, W), or (H, W, C) with C 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; uint8 or uint16.

    Raises:
        ValueError: another shape or type.
    """
    channels = image[..., None] if image.ndim == 2 else image
    if channels.ndim != 3 or channels.shape[2] not in (1, 2, 3, 4) or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"expected (H, W) or (H, W, 1 to 4) of uint8 or uint16, got {image.shape} of {image.dtype}; "
            "put the channels last, and scale values to 0..255"
        )
    return of_channels(channels)


def array_of_picture(picture: Picture, channels: int | None) -> np.ndarray:
    """The channels that `picture_of_array` was given: None for (H, W), else (H, W, channels)."""
    colours = picture.rgb[..., :1] if picture.grey else picture.rgb
    if picture.alpha is not None:
        colours = np.dstack([colours, picture.alpha])
    return np.ascontiguousarray(colours[..., 0] if channels is None else colours)


def picture_of_image(image: Image.Image) -> Picture:
    """Any 8-bit mode, and 16-bit grey; upright by its EXIF orientation, with its colour profile where that still fits.

    Raises:
        ValueError: the image holds several frames or 32-bit values.
    """
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ValueError(f"expected one image, got {image.n_frames} frames; give them one by one")  # type: ignore[attr-defined]
    if image.mode in ("F", "I"):
        raise ValueError(f"expected 8 or 16 bits, got mode {image.mode}; convert it first")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return picture_of_array(np.asarray(upright).astype(np.uint16))
    return of_channels(*decode_8_bit(upright, image.info.get("icc_profile")))


def image_of_picture(picture: Picture) -> Image.Image:
    """L, LA, RGB or RGBA, or 16-bit grey; other 16-bit pictures are reduced to 8, as Pillow has no mode for them."""
    if picture.rgb.dtype == np.uint16 and (not picture.grey or picture.alpha is not None):
        picture = picture.as_8_bit()
    channels = None if picture.grey and picture.alpha is None else 3
    image = Image.fromarray(array_of_picture(picture, channels))
    if picture.icc_profile:
        image.info["icc_profile"] = picture.icc_profile
    return image
