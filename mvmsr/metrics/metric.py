"""What a benchmark asks of a metric: a number for one picture, or the reason why there is none."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from mvmsr.metrics.protocol import Protocol, planes


class Metric(ABC):
    """A score of one picture, averaged over pictures by whoever calls it.

    Calling an instance with `sr` and `gt`, both (H, W, 3) uint8 RGB, gives a float. `gt` may be None where
    `needs_gt` is false.
    """

    name: str
    """The key of its scores in result files; variants have names of their own."""
    higher_is_better: bool
    needs_gt: bool = True
    decimals: int = 4
    """How many decimals tables show."""
    why_nan: str = "not a number"
    """The reason where the score is nan and `limitation` gives none."""

    @abstractmethod
    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The score; nan where `limitation` gives a reason."""

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size cannot be scored, or None where it can; before a semicolon what it shares with
        other pictures, behind it the picture's own size.
        """
        return None


class FidelityMetric(Metric):
    """A metric that compares the planes which the protocol selects, such as PSNR and SSIM."""

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The score of `sr` against `gt`.

        Raises:
            ValueError: `gt` is missing or of another size.
        """
        sr, gt = same_size(self.name, sr, gt)
        return self.compare(planes(sr, protocol), planes(gt, protocol), protocol)

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size cannot be scored: the border is all of it."""
        if min(height, width) <= 2 * protocol.crop_border:
            return (
                f"{self.name.upper()} needs more than the {protocol.crop_border} px cropped at each side; the image is "
                f"{width}x{height}"
            )
        return None

    @abstractmethod
    def compare(self, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        """The score of planes (C, H, W) float64 in [0, 255]."""


def same_size(name: str, sr: np.ndarray, gt: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures, checked.

    Raises:
        ValueError: `gt` is None, or the shapes differ.
    """
    if gt is None:
        raise ValueError(f"{name} compares with the original image, and none was given")
    if sr.shape != gt.shape:
        raise ValueError(f"{name}: the result has shape {sr.shape}, the original {gt.shape}; they must be equal")
    return sr, gt
