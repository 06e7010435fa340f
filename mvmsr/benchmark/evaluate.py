"""One method on one set: every picture restored, quantised and scored. Training validates by the same function."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from mvmsr.benchmark.cost import MemoryMeter
from mvmsr.benchmark.image_sets import ImageSet
from mvmsr.benchmark.methods import Bicubic, Restore, SavedPictures
from mvmsr.benchmark.pipeline import in_order
from mvmsr.color import rgb_to_y
from mvmsr.data.image_io import read_picture, read_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair
from mvmsr.metrics.metric import FidelityMetric, Metric
from mvmsr.metrics.protocol import Protocol, ProtocolError, crop, planes

logger = logging.getLogger(__name__)

_EXPECTED = (ValueError, OSError, RuntimeError, MemoryError, ArithmeticError)  # files, sizes, memory, overflow


@dataclass(frozen=True)
class ImageScore:
    """The scores of one picture.

    Attributes:
        method, set, image: names.
        scores: by metric; None where `notes` says why.
        seconds: time of the restoration alone, None for pictures that were read.
        notes: why a metric has no score, by metric.
        error: what went wrong with this picture; `scores` is then empty.
        pixels: of the restored picture.
        peak_mib: working memory of the restoration, where it was measured (see `MemoryMeter`).
    """

    method: str
    set: str
    image: str
    scores: dict[str, float | None]
    seconds: float | None = None
    notes: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    pixels: int | None = None
    peak_mib: float | None = None

    def failed(self, error: Exception) -> ImageScore:
        """The same picture with an error in place of everything measured."""
        return ImageScore(self.method, self.set, self.image, {}, error=str(error))


OnImage = Callable[[ImageScore, "np.ndarray | None"], None]
_Load = Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Restored:
    """A picture between its restoration and its scores.

    Attributes:
        images: sr and gt, (H, W, 3) uint8; None after an error and under a protocol that makes luma only.
    """

    score: ImageScore
    pair: ImagePair
    images: tuple[np.ndarray, np.ndarray] | None = None


def evaluate(
    method: Restore,
    image_set: ImageSet,
    metrics: Mapping[str, Metric],
    protocol: Protocol,
    on_image: OnImage | None = None,
    name: str = "model",
    *,
    known: Mapping[str, ImageScore] | None = None,
    workers: int = 1,
    meter: MemoryMeter | None = None,
) -> list[ImageScore]:
    """Score a method on every picture of a set, in order.

    A picture that cannot be read, restored or compared has `error` set and the others are done all the same.

    With several workers, pictures are read and scored side by side, and restored one after the other. A method on the
    CPU has it for itself meanwhile, so that its times are its own; one on another device goes on while the last
    pictures are scored. Scores do not depend on `workers`.

    Args:
        method: lq (1, 3, h, w) float32 in [0, 1], on the CPU -> sr (1, 3, h * scale, w * scale) on any device; or
            saved pictures.
        metrics: by the name that `scores` uses.
        on_image: called after each picture with its scores and the restored picture (H, W, 3) uint8; with None
            instead of the picture after an error and under a protocol that makes no RGB picture.
        name: the method's, in the scores.
        known: scores from before, by picture; they are taken over, without a call of `on_image`.
        workers: threads that read and score.
        meter: measures the memory of the restorations.

    Raises:
        ProtocolError: the protocol is for bicubic upscaling only, or for another scale than the set's.
    """
    check_protocol(method, image_set, protocol, name)
    done = dict(known or {})
    pairs = [pair for pair in image_set.pairs if pair.name not in done]
    networks = {key: metric for key, metric in metrics.items() if _has_network(metric)}
    parallel = {key: metric for key, metric in metrics.items() if key not in networks}

    def restore(pair: ImagePair, load: _Load) -> _Restored:
        blank = ImageScore(name, image_set.name, pair.name, {})
        if protocol.luma_first:
            return _Restored(blank, pair)
        try:
            return _restore(method, pair, *load(), blank, meter)
        except _EXPECTED as error:
            return _Restored(blank.failed(error), pair)

    def score(restored: _Restored) -> ImageScore:
        """By the metrics that may run in any thread."""
        if not protocol.luma_first:
            return _add_scores(restored.score, restored, parallel, protocol)
        try:
            return _score_luma(image_set, restored, metrics, protocol)
        except _EXPECTED as error:
            return restored.score.failed(error)

    beside = getattr(method, "device", torch.device("cpu")).type != "cpu"
    for restored, scored in in_order(pairs, image_set.load, restore, score, workers, beside):
        result = _add_scores(scored, restored, networks, protocol)
        if result.error is None:
            result = replace(result, scores={key: result.scores[key] for key in metrics})
        else:
            logger.warning("%s on %s, %s: %s", name, image_set.name, result.image, result.error)
        done[result.image] = result
        if on_image is not None:
            on_image(result, restored.images[0] if restored.images and result.error is None else None)
    return [done[pair.name] for pair in image_set.pairs]


def check_protocol(method: Restore, image_set: ImageSet, protocol: Protocol, name: str) -> None:
    """Whether a method can be measured on a set under a protocol.

    Raises:
        ProtocolError: the protocol is for bicubic upscaling only, or for another scale than the set's.
    """
    check_luma_first(protocol, isinstance(method, Bicubic), name)
    if protocol.scale != image_set.scale:
        raise ProtocolError(f"protocol of x{protocol.scale} on {image_set.name}, which is x{image_set.scale}")


def check_luma_first(protocol: Protocol, bicubic: bool, name: str) -> None:
    """Whether a method, bicubic or not, can be measured under a protocol.

    Raises:
        ProtocolError: the protocol is for bicubic upscaling only.
    """
    if protocol.luma_first and not bicubic:
        raise ProtocolError(
            f"protocol {protocol.name!r} resizes luma itself, so it exists for bicubic alone, not for {name!r}; "
            "compare models under `y`, which differs by hundredths of a dB"
        )


def score_picture(
    sr: np.ndarray, gt: np.ndarray, metrics: Mapping[str, Metric], protocol: Protocol
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Scores by metric, and the reasons of those that are None.

    Args:
        sr, gt: (H, W, 3) uint8.

    Raises:
        ValueError: the sizes differ.
    """
    if sr.shape != gt.shape:
        raise ValueError(
            f"the result is {sr.shape[1]}x{sr.shape[0]}, the original {gt.shape[1]}x{gt.shape[0]}; they must be equal"
        )
    scores: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    height, width = gt.shape[:2]
    compared: tuple[np.ndarray, np.ndarray] | None = None
    for key, metric in metrics.items():
        if reason := metric.limitation(height, width, protocol):
            value = math.nan
        elif isinstance(metric, FidelityMetric):  # luma is taken once for all of them
            compared = compared or (planes(sr, protocol), planes(gt, protocol))
            value = metric.compare(*compared, protocol)
        else:
            value = metric(sr, gt, protocol)
        if math.isnan(value):
            notes[key] = reason or metric.why_nan
        scores[key] = None if math.isnan(value) else value
    return scores, notes


def quantise(sr: Tensor) -> np.ndarray:
    """(1, 3, H, W) floating point, nominally in [0, 1] -> (H, W, 3) uint8: clipped, times 255, halves up.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    if sr.ndim != 4 or sr.shape[:2] != (1, 3):
        raise ValueError(f"expected a result of shape (1, 3, H, W), got {tuple(sr.shape)}")
    sr = sr.detach().float()
    if not torch.isfinite(sr).all():
        raise ValueError("the result has values that are not finite; try precision '32'")
    return (sr[0].clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()


def to_tensor(rgb: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].float() / 255


def _restore(
    method: Restore, pair: ImagePair, lq: np.ndarray, gt: np.ndarray, blank: ImageScore, meter: MemoryMeter | None
) -> _Restored:
    if isinstance(method, SavedPictures):
        return _Restored(blank, pair, (read_rgb(method.find(blank.set, pair)), gt))
    lq_tensor = to_tensor(lq)
    peak = meter.begin(lq.shape[0] * lq.shape[1]) if meter is not None else None
    start = time.perf_counter()
    with torch.no_grad():
        sr = quantise(method(lq_tensor))  # quantised on the device, so the clock stops after its work
    seconds = time.perf_counter() - start
    measured = replace(
        blank, seconds=seconds, pixels=sr.shape[0] * sr.shape[1], peak_mib=peak() if peak is not None else None
    )
    return _Restored(measured, pair, (sr, gt))


def _add_scores(
    score: ImageScore, restored: _Restored, metrics: Mapping[str, Metric], protocol: Protocol
) -> ImageScore:
    """`score` with the scores of these metrics, too, or with what went wrong."""
    if score.error is not None or restored.images is None:
        return score
    try:
        scores, notes = score_picture(*restored.images, metrics, protocol)
    except _EXPECTED as error:
        return score.failed(error)
    return replace(score, scores={**score.scores, **scores}, notes={**score.notes, **notes})


def _has_network(metric: Metric) -> bool:
    """Whether a metric computes by torch, which brings its own threads and had better be called from one."""
    return any(isinstance(value, nn.Module) for value in vars(metric).values())


def _score_luma(
    image_set: ImageSet, restored: _Restored, metrics: Mapping[str, Metric], protocol: Protocol
) -> ImageScore:
    """Bicubic on luma alone: taken from the original, made small, made large, rounded, compared."""
    _, gt = image_set.load(restored.pair)
    # A file with one channel is its own luma in [0, 255]; luma of the same levels as RGB would span [16, 235].
    is_grey = read_picture(restored.pair.gt).grey
    luma = gt[..., 0].astype(np.float64) if is_grey else rgb_to_y(gt, protocol.round_y)
    start = time.perf_counter()
    sr = imresize(imresize(luma, scale=1 / protocol.scale), scale=protocol.scale)
    sr = np.floor(sr.clip(16, 235) + 0.5)  # luma's range, for grey files too: so the published rows were made
    seconds = time.perf_counter() - start
    compared = crop(sr, protocol.crop_border)[None], crop(luma, protocol.crop_border)[None]
    scores: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for key, metric in metrics.items():
        if not isinstance(metric, FidelityMetric):
            scores[key], notes[key] = None, f"it needs a colour image, and protocol {protocol.name!r} makes luma only"
        elif reason := metric.limitation(luma.shape[0], luma.shape[1], protocol):
            scores[key], notes[key] = None, reason
        else:
            scores[key] = metric.compare(*compared, protocol)
    return replace(restored.score, scores=scores, seconds=seconds, notes=notes, pixels=sr.size)
