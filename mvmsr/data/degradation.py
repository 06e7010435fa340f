"""What happens to photographs on their way to us: blur, noise and JPEG, in random strengths."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

_BLUREST = 10.0
_REACH = 3.0  # of a blur, in standard deviations
_GREYSCALE_SHARE = 0.4  # of the noise that is the same in all channels, as in Real-ESRGAN's options


@dataclass(frozen=True)
class Degradation:
    """The classical model, (x blurred) + noise, then JPEG; each strength is drawn anew for each picture.

    Attributes:
        blur: least and largest standard deviation of a Gaussian in pixels, drawn for height and width separately; None
            for no blur.
        noise: least and largest standard deviation of normal noise in levels of 255; two fifths of the pictures get the
            same noise in all channels. None for no noise.
        jpeg: least and largest quality, 1 to 100; None for no JPEG.
        prob: how often each of the three happens.

    Raises:
        ValueError: a range that is none.

    Source: Elad and Feuer, "Restoration of a Single Superresolution Image from Several Blurred, Noisy, and Undersampled
        Measured Images", 1997; ranges and grey noise as in Wang et al., "Real-ESRGAN", 2021, section 3.1.
    """

    blur: tuple[float, float] | None = (0.0, 0.75)
    noise: tuple[float, float] | None = (0.0, 15.0)
    jpeg: tuple[int, int] | None = (40, 95)
    prob: float = 0.8

    def __post_init__(self) -> None:
        for name, least, largest in (("blur", 0, _BLUREST), ("noise", 0, 255), ("jpeg", 1, 100)):
            given = getattr(self, name)
            if given is not None and not (least <= given[0] <= given[1] <= largest):
                raise ValueError(
                    f"{name} must be [lowest, highest] within {least:g} and {largest:g}, got {list(given)}"
                )
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be from 0 to 1, got {self.prob}")

    def __call__(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 -> the same, degraded; the given array is left as it is."""
        if self.blur is not None and rng.random() < self.prob:
            picture = blurred(picture, *rng.uniform(*self.blur, 2))
        if self.noise is not None and rng.random() < self.prob:
            channels = 1 if rng.random() < _GREYSCALE_SHARE else picture.shape[2]
            noise = rng.normal(0, rng.uniform(*self.noise), (*picture.shape[:2], channels))
            picture = levels(picture + noise)
        if self.jpeg is not None and rng.random() < self.prob:
            picture = through_jpeg(picture, int(rng.integers(self.jpeg[0], self.jpeg[1], endpoint=True)))
        return picture


def blurred(picture: np.ndarray, vertical: float, horizontal: float) -> np.ndarray:
    """(H, W, C) uint8 under a Gaussian of these standard deviations; edges are mirrored.

    >>> blurred(np.array([[[0], [90], [0]]], np.uint8), 0, 0.5)[0, :, 0].tolist()
    [10, 71, 10]
    """
    from scipy.ndimage import gaussian_filter

    sigmas = (vertical, horizontal, 0)
    return levels(gaussian_filter(picture.astype(np.float32), sigmas, mode="reflect", truncate=_REACH))


def through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8, written as a JPEG of that quality (with colours at half the resolution) and read again."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def levels(values: np.ndarray) -> np.ndarray:
    """Values in levels of 255, rounded and clipped to uint8."""
    return (values + 0.5).clip(0, 255).astype(np.uint8)
