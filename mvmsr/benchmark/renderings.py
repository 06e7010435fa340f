"""The ways by which a picture comes to be compared with its original: low quality, rounding, and which luma."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mvmsr.benchmark.evaluate import to_tensor
from mvmsr.benchmark.image_sets import ImageSet
from mvmsr.benchmark.methods import Bicubic, Restore, SavedPictures
from mvmsr.color import rgb_to_y
from mvmsr.data.image_io import read_picture, read_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair

Grey = Literal["as RGB", "as it is"]
GREY: tuple[Grey, Grey] = ("as RGB", "as it is")
STUDIO_RANGE = (16, 235)
COLORS = {
    "y rounded": "luma in [16, 235], rounded",
    "y": "luma in [16, 235], not rounded",
    "y full": "luma in [0, 255] (OpenCV's YCrCb, Pillow's L), rounded",
    "rgb": "the three channels",
}


@dataclass(frozen=True)
class Rendering:
    """How planes came about, and the two of them.

    Attributes:
        how: where the low-quality picture comes from and how the result was rounded.
        color: see `COLORS`.
        grey: a file with one channel as RGB, so that its luma is in [16, 235], or as it is; None where that makes no
            difference.
        sr, gt: (C, H, W) float64 in [0, 255], not cropped.
    """

    how: str
    color: str
    grey: Grey | None
    sr: np.ndarray
    gt: np.ndarray


def render(method: Restore, image_set: ImageSet, pair: ImagePair) -> Iterator[Rendering]:
    """Every way for one picture of a set, each with both treatments of grey files.

    Raises:
        ValueError, OSError: a file cannot be read, or the sizes do not fit.
    """
    lq, gt = image_set.load(pair)
    is_grey = read_picture(pair.gt).grey
    if isinstance(method, SavedPictures):
        file = method.find(image_set.name, pair)
        sr = read_rgb(file)
        _require_equal_sizes(str(file), sr, gt)
        yield from _colors("its own images", sr, gt, is_grey)
        return
    for source, small in _low_quality(None if pair.lq is None else lq, gt, image_set.scale):
        sr = _restored(method, small, image_set.scale, source)
        _require_equal_sizes(f"{pair.name}: the result", sr, gt)
        yield from _colors(f"{source}, rounded", np.floor(sr + 0.5).astype(np.uint8), gt, is_grey)
        if source == "MATLAB":
            yield from _colors(f"{source}, truncated", sr.astype(np.uint8), gt, is_grey)
            yield from _colors(f"{source}, not rounded", sr, gt, is_grey)
    if isinstance(method, Bicubic):
        yield from _luma_first(gt, is_grey, image_set.scale)


def _require_equal_sizes(what: str, sr: np.ndarray, gt: np.ndarray) -> None:
    if sr.shape != gt.shape:
        sizes = f"{sr.shape[1]}x{sr.shape[0]}, the original {gt.shape[1]}x{gt.shape[0]}"
        raise ValueError(f"{what} is {sizes}; they must be equal")


def _low_quality(file: np.ndarray | None, gt: np.ndarray, scale: int) -> Iterator[tuple[str, np.ndarray]]:
    import cv2
    from PIL import Image

    size = gt.shape[1] // scale, gt.shape[0] // scale
    yield "MATLAB", imresize(gt, scale=1 / scale)
    yield "Pillow", np.asarray(Image.fromarray(gt).resize(size, Image.Resampling.BICUBIC))
    yield "OpenCV", cv2.resize(gt, size, interpolation=cv2.INTER_CUBIC)
    if file is not None:
        yield "the set's files", file


def _restored(method: Restore, lq: np.ndarray, scale: int, source: str) -> np.ndarray:
    """(H, W, 3) float64 in [0, 255], not rounded; bicubic enlarges with the library that made the picture small."""
    import cv2
    import torch
    from PIL import Image

    if isinstance(method, Bicubic):
        size = lq.shape[1] * scale, lq.shape[0] * scale
        if source == "Pillow":
            return np.asarray(Image.fromarray(lq).resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
        if source == "OpenCV":
            return cv2.resize(lq, size, interpolation=cv2.INTER_CUBIC).astype(np.float64)
        return imresize(lq.astype(np.float64), scale=scale).clip(0, 255)
    assert not isinstance(method, SavedPictures)
    with torch.no_grad():
        sr = method(to_tensor(lq))[0].float().clamp(0, 1) * 255
    return sr.permute(1, 2, 0).cpu().numpy().astype(np.float64)


def _colors(how: str, sr: np.ndarray, gt: np.ndarray, is_grey: bool) -> Iterator[Rendering]:
    for color in COLORS:
        planes = _planes(sr, color), _planes(gt, color)
        if color == "rgb" or not is_grey:
            yield Rendering(how, color, None, *planes)
            continue
        yield Rendering(how, color, GREY[0], *planes)
        one = sr[None, ..., 0].astype(np.float64)
        yield Rendering(how, color, GREY[1], one, gt[None, ..., 0].astype(np.float64))


def _planes(rgb: np.ndarray, color: str) -> np.ndarray:
    if color == "rgb":
        return np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float64)
    if color == "y full":
        return np.floor(rgb @ np.array([0.299, 0.587, 0.114]) + 0.5)[None]
    if rgb.dtype == np.uint8:
        return rgb_to_y(rgb, round_y=color == "y rounded")[None]
    luma = rgb @ (np.array([65.481, 128.553, 24.966]) / 255) + 16
    return (np.floor(luma + 0.5) if color == "y rounded" else luma)[None]


def _luma_first(gt: np.ndarray, is_grey: bool, scale: int) -> Iterator[Rendering]:
    """Bicubic on luma alone, which is small and large again before anything is rounded."""
    treatments: tuple[Grey | None, ...] = GREY if is_grey else (None,)
    for grey in treatments:
        for color in ("y rounded", "y"):
            luma = rgb_to_y(gt, round_y=color == "y rounded")
            if grey == GREY[1]:
                luma = gt[..., 0].astype(np.float64)
            sr = imresize(imresize(luma, scale=1 / scale), scale=scale)
            if color == "y":
                yield Rendering("luma first, not rounded", color, grey, sr[None], luma[None])
                continue
            for how, low, high in (("luma first, clipped to [0, 255]", 0, 255), ("luma first", *STUDIO_RANGE)):
                rounded = np.floor(sr.clip(low, high) + 0.5)
                yield Rendering(how, color, grey, rounded[None], luma[None])
