"""Real-ESRGAN's degradation: blur, resizing, noise and JPEG, twice over, and a last sinc filter.

Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCVW 2021,
    section 3; names and default values are those of its options file `train_realesrnet_x4plus.yml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from mvmsr.data.blur_kernels import KERNELS, SMALLEST, filtered, random_kernel, random_sinc, random_size
from mvmsr.data.degradation import levels, through_jpeg
from mvmsr.data.noise import gaussian_noise, poisson_noise

_LARGEST_FINAL = 21  # side of the last sinc filter
_LIMITS = {
    "blur_sigma": (0.01, 20),
    "betag_range": (0.01, 20),
    "betap_range": (0.01, 20),
    "resize_range": (0.01, 4),
    "noise_range": (0, 255),
    "poisson_scale_range": (0, 100),
    "jpeg_range": (1, 100),
}


def _check_probability(key: str, given: float) -> None:
    if not 0 <= given <= 1:
        raise ValueError(f"{key} must be from 0 to 1, got {given}")


@dataclass(frozen=True)
class Round:
    """One of the two rounds; pictures are (H, W, 3) float32 in levels of 255, every strength is drawn anew.

    Attributes:
        blur_kernel_size: largest side of a kernel, odd; 7, 9, ... are drawn equally often.
        kernel_list, kernel_prob: kernels by name (see `blur_kernels.KERNELS`), and how often each is drawn.
        sinc_prob: how often the kernel is a sinc filter instead.
        blur_sigma: standard deviations in pixels.
        betag_range, betap_range: shapes of generalized Gaussians and of plateaus.
        blur_prob: how often there is any blur.
        resize_prob: how often the picture is made larger, smaller, and left as it is.
        resize_range: factors, smallest and largest; 1 lies between.
        gaussian_noise_prob: how often noise is normal; else it is Poisson's.
        noise_range: standard deviations of normal noise in levels of 255.
        poisson_scale_range: strengths of Poisson noise, where 1 is that of 256 photons in a white pixel.
        gray_noise_prob: how often noise is the same in all channels.
        jpeg_range: qualities.
        suffix: of the names of these attributes in options.

    Raises:
        ValueError: a value that is none; the message begins with its name in options.
    """

    blur_kernel_size: int = 21
    kernel_list: tuple[str, ...] = KERNELS
    kernel_prob: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_prob: float = 0.1
    blur_sigma: tuple[float, float] = (0.2, 3)
    betag_range: tuple[float, float] = (0.5, 4)
    betap_range: tuple[float, float] = (1, 2)
    blur_prob: float = 1.0
    resize_prob: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: tuple[float, float] = (0.15, 1.5)
    gaussian_noise_prob: float = 0.5
    noise_range: tuple[float, float] = (1, 30)
    poisson_scale_range: tuple[float, float] = (0.05, 3)
    gray_noise_prob: float = 0.4
    jpeg_range: tuple[int, int] = (30, 95)
    suffix: str = ""

    def __post_init__(self) -> None:
        side = self.blur_kernel_size
        if side < SMALLEST or side % 2 == 0:
            raise ValueError(f"{self.key('blur_kernel_size')} must be an odd number from {SMALLEST} on, got {side}")
        if unknown := [name for name in self.kernel_list if name not in KERNELS]:
            raise ValueError(f"{self.key('kernel_list')} names {unknown[0]!r}; known are {', '.join(KERNELS)}")
        for name, count in (("kernel_prob", len(self.kernel_list)), ("resize_prob", 3)):
            given = getattr(self, name)
            if len(given) != count or not (min(given, default=-1) >= 0 and abs(sum(given) - 1) < 1e-8):
                raise ValueError(f"{self.key(name)} must be {count} probabilities whose sum is 1, got {list(given)}")
        for name in ("sinc_prob", "blur_prob", "gaussian_noise_prob", "gray_noise_prob"):
            _check_probability(self.key(name), getattr(self, name))
        for name, (least, largest) in _LIMITS.items():
            given = getattr(self, name)
            if len(given) != 2 or not least <= given[0] <= given[1] <= largest:
                limits = f"within {least:g} and {largest:g}"
                raise ValueError(f"{self.key(name)} must be [lowest, highest] {limits}, got {list(given)}")
        if not self.resize_range[0] <= 1 <= self.resize_range[1]:
            raise ValueError(f"{self.key('resize_range')} must have 1 in it, got {list(self.resize_range)}")

    def key(self, name: str) -> str:
        """What options call the attribute of that name."""
        return "second_blur_prob" if self.suffix and name == "blur_prob" else f"{name}{self.suffix}"

    def blurred(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture under a kernel drawn for it."""
        if rng.random() >= self.blur_prob:
            return picture
        probs, shapes = (self.kernel_prob, self.sinc_prob), (self.blur_sigma, self.betag_range, self.betap_range)
        return filtered(picture, random_kernel(rng, self.blur_kernel_size, self.kernel_list, *probs, *shapes))

    def factor(self, rng: np.random.Generator) -> float:
        """By how much the sides are to be multiplied."""
        direction = rng.choice(3, p=self.resize_prob)
        if direction == 2:
            return 1.0
        return rng.uniform(1, self.resize_range[1]) if direction == 0 else rng.uniform(self.resize_range[0], 1)

    def noisy(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture with noise, within 0 and 255."""
        is_gaussian, is_grey = rng.random() < self.gaussian_noise_prob, bool(rng.random() < self.gray_noise_prob)
        if is_gaussian:
            noise = gaussian_noise(picture.shape, rng.uniform(*self.noise_range), is_grey, rng)
        else:
            noise = poisson_noise(picture, rng.uniform(*self.poisson_scale_range), is_grey, rng)
        return (picture + noise).clip(0, 255)

    def compressed(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture, written as a JPEG and read again."""
        quality = int(rng.integers(self.jpeg_range[0], self.jpeg_range[1], endpoint=True))
        return through_jpeg(levels(picture), quality).astype(np.float32)


FIRST = Round()
SECOND = replace(
    FIRST,
    blur_sigma=(0.2, 1.5),
    blur_prob=0.8,
    resize_prob=(0.3, 0.4, 0.3),
    resize_range=(0.3, 1.2),
    noise_range=(1, 25),
    poisson_scale_range=(0.05, 2.5),
    suffix="2",
)


@dataclass(frozen=True)
class SecondOrder:
    """Both rounds; the second ends with a sinc filter at the final size, before or after its JPEG.

    Attributes:
        first, second: the rounds; sizes of the second are relative to the final one.
        final_sinc_prob: how often there is that sinc filter, which imitates the ringing of sharpened pictures.
    """

    first: Round = FIRST
    second: Round = SECOND
    final_sinc_prob: float = 0.8

    def __post_init__(self) -> None:
        _check_probability("final_sinc_prob", self.final_sinc_prob)

    def __call__(self, gt: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 -> (H / scale, W / scale, 3) uint8, degraded; the given array is left as it is."""
        first, second = self.first, self.second
        small = (gt.shape[0] // scale, gt.shape[1] // scale)
        picture = first.blurred(gt.astype(np.float32), rng)
        picture = resized(picture, gt.shape[:2], first.factor(rng), rng)
        picture = first.compressed(first.noisy(picture, rng), rng)
        picture = second.blurred(picture, rng)
        picture = second.noisy(resized(picture, small, second.factor(rng), rng), rng)
        if rng.random() < 0.5:
            return levels(second.compressed(self._finished(picture, small, rng), rng))
        return levels(self._finished(second.compressed(picture, rng), small, rng))

    def _finished(self, picture: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        picture = resized(picture, size, 1.0, rng)
        if rng.random() >= self.final_sinc_prob:
            return picture
        return filtered(picture, random_sinc(random_size(_LARGEST_FINAL, rng), rng))


def second_order(options: Mapping[str, Any]) -> SecondOrder:
    """From options by their names in Real-ESRGAN's files; other names are passed over.

    Raises:
        ValueError: as `Round`.
    """
    first, second = (_round(options, default) for default in (FIRST, SECOND))
    return SecondOrder(first, second, options.get("final_sinc_prob", SecondOrder.final_sinc_prob))


def _round(options: Mapping[str, Any], default: Round) -> Round:
    keys = {field.name: default.key(field.name) for field in fields(Round) if field.name != "suffix"}
    return replace(default, **{name: options[key] for name, key in keys.items() if key in options})


def resized(picture: np.ndarray, size: tuple[int, ...], factor: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 at `factor` times (height, width), by area, bilinearly or bicubically; never antialiased.

    Sides are rounded down, to no less than 1 pixel.
    """
    import cv2

    how = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    height, width = (max(int(side * factor), 1) for side in size)
    return cv2.resize(picture, (width, height), interpolation=how)
