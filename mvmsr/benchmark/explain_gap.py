"""Which way of measuring gives a paper's figure: all of them tried on the same pictures."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation

import numpy as np
from torch import Tensor

from mvmsr.benchmark.image_sets import ImageSet
from mvmsr.benchmark.methods import Bicubic, Restore, SavedPictures
from mvmsr.benchmark.renderings import GREY, Grey, Rendering, render
from mvmsr.benchmark.ssim_variants import SMALLEST, ssim_variants
from mvmsr.data.layouts import ImagePair
from mvmsr.metrics.protocol import crop

PSNR_MEANS = {"mean of PSNR": "the mean over the images", "PSNR of mean MSE": "of the error averaged over images"}
MORE_CROPPED = 6
"""NTIRE's challenges crop `scale` and this many pixels more."""
OnPicture = Callable[[int, int, str], None]
"""Called with pictures done, pictures in all, and a picture's name."""


class TargetError(ValueError):
    """A target that cannot be understood; the message says how one is written."""


@dataclass(frozen=True)
class Target:
    """A published figure; `tolerance` is half a unit of its last digit."""

    metric: str
    value: float
    tolerance: float


@dataclass(frozen=True)
class Convention:
    """One way of measuring.

    Attributes:
        how: low quality and rounding, see `renderings.render`.
        color: see `renderings.COLORS`.
        grey: how files with one channel count; None where the set has none.
        border: pixels cropped at each side.
        variant: of the metric: see `PSNR_MEANS` and `SSIM_VARIANTS`.
    """

    how: str
    color: str
    grey: Grey | None
    border: int
    variant: str = ""

    def protocol(self, scale: int) -> str | None:
        """The `--protocol` of `mvmsr test` that measures bicubic or a model like this, if one does."""
        if self.variant not in ("mean of PSNR", "gaussian", "gaussian, zero-padded"):
            return None
        plain = self.border == scale and self.variant != "gaussian, zero-padded"
        if self.how == "luma first":
            return "y_only" if plain and self.color == "y rounded" and self.grey != "as RGB" else None
        if self.how not in ("MATLAB, rounded", "its own images") or self.grey == "as it is":
            return None
        if self.color == "rgb" and self.border == 0 and self.variant != "gaussian":
            return "rgb_zero_pad"
        return {"y rounded": "y", "y": "y_float", "rgb": "rgb"}.get(self.color) if plain else None


@dataclass(frozen=True)
class Explanation:
    """What one way gives for all targets.

    Attributes:
        conventions, values: by metric; they differ in their variant only.
        distance: the largest difference to a target in units of its tolerance.
    """

    conventions: Mapping[str, Convention]
    values: Mapping[str, float]
    distance: float

    @property
    def fits(self) -> bool:
        """Whether every value is the target's to the digits given."""
        return self.distance <= 1 + 1e-9

    def protocol(self, scale: int) -> str | None:
        """The protocol that all its conventions belong to."""
        names = {convention.protocol(scale) for convention in self.conventions.values()}
        return names.pop() if len(names) == 1 else None


def parse_target(text: str) -> Target:
    """`psnr=26.00` as a target; its digits are what has to be matched.

    >>> parse_target("psnr=26.00")
    Target(metric='psnr', value=26.0, tolerance=0.005)

    Raises:
        TargetError: another form, or a metric other than PSNR and SSIM.
    """
    metric, separator, digits = text.partition("=")
    metric = metric.strip().lower()
    try:
        number = Decimal(digits.strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not separator or not number.is_finite():
        raise TargetError(f"target {text!r}: expected psnr=26.00 or ssim=0.7027, with the digits of the paper")
    if metric not in ("psnr", "ssim"):
        raise TargetError(f"target {text!r}: conventions are known for psnr and ssim, not for {metric!r}")
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return Target(metric, float(number), 0.5 * 10.0**exponent)


def borders_of(scale: int) -> tuple[int, ...]:
    """Nothing, `scale`, and NTIRE's border."""
    return 0, scale, scale + MORE_CROPPED


def measure(
    method: Restore,
    image_set: ImageSet,
    metrics: Sequence[str],
    on_picture: OnPicture | None = None,
    workers: int | None = None,
) -> dict[str, dict[Convention, float]]:
    """The score of a set under every convention, by metric. Each picture is read once.

    Args:
        metrics: `psnr`, `ssim` or both; SSIM takes most of the time.
        workers: pictures measured side by side; networks are called one after the other all the same.

    Raises:
        ValueError, OSError: a picture cannot be read or restored, or is too small for SSIM.
    """
    method = method if isinstance(method, (Bicubic, SavedPictures)) else _OneAtATime(method)
    table = _Table()

    def one(pair: ImagePair) -> list[_Measured]:
        renderings = render(method, image_set, pair)
        return [_measure(rendering, borders_of(image_set.scale), metrics) for rendering in renderings]

    pool = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1))
    try:
        for done, (pair, found) in enumerate(zip(image_set.pairs, pool.map(one, image_set.pairs), strict=True), 1):
            table.add(found)
            if on_picture is not None:
                on_picture(done, len(image_set), pair.name)
    finally:
        pool.shutdown(cancel_futures=True)
    scores = table.scores(len(image_set))
    if "ssim" in metrics and "ssim" not in scores:
        raise ValueError(
            f"{image_set.name}: ssim needs images of at least {SMALLEST}x{SMALLEST} pixels, and not all are; leave out "
            "its target, or the smaller images"
        )
    return scores


def explain(scores: Mapping[str, Mapping[Convention, float]], targets: Sequence[Target]) -> list[Explanation]:
    """Every way with its distance to the targets, the nearest first; the better known first among equals.

    Raises:
        TargetError: no targets, two for one metric, or one that was not measured.
    """
    names = [target.metric for target in targets]
    if not targets or len(set(names)) < len(names) or not set(names) <= set(scores):
        raise TargetError(f"expected one target each for some of {', '.join(scores)}; got {', '.join(names) or 'none'}")
    ways: dict[tuple[str, str, Grey | None, int], dict[str, list[tuple[Convention, float]]]] = {}
    for metric in names:
        for convention, value in scores[metric].items():
            key = (convention.how, convention.color, convention.grey, convention.border)
            ways.setdefault(key, {}).setdefault(metric, []).append((convention, value))
    found = []
    for way in ways.values():
        combinations: list[dict[str, tuple[Convention, float]]] = [{}]
        for metric in names:
            combinations = [{**begun, metric: more} for begun in combinations for more in way.get(metric, [])]
        for chosen in combinations:
            distance = max(abs(chosen[t.metric][1] - t.value) / t.tolerance for t in targets)
            conventions = {metric: pair[0] for metric, pair in chosen.items()}
            found.append(Explanation(conventions, {metric: pair[1] for metric, pair in chosen.items()}, distance))
    return sorted(found, key=lambda one: one.distance)


@dataclass(frozen=True)
class _Measured:
    """A rendering's scores; of PSNR the mean squared error, as it is averaged in two ways."""

    how: str
    color: str
    grey: Grey | None
    values: tuple[tuple[str, int, str, float], ...]
    """(metric, border, variant, value)"""


def _measure(rendering: Rendering, borders: Sequence[int], metrics: Sequence[str]) -> _Measured:
    found: list[tuple[str, int, str, float]] = []
    if "psnr" in metrics:
        squares = ((rendering.sr - rendering.gt) ** 2).mean(axis=0)
        for border in borders:
            if min(squares.shape) > 2 * border:
                found.append(("psnr", border, "", float(crop(squares, border).mean())))
    if "ssim" in metrics:
        for (border, variant), value in ssim_variants(rendering.sr, rendering.gt, borders).items():
            found.append(("ssim", border, variant, value))
    return _Measured(rendering.how, rendering.color, rendering.grey, tuple(found))


@dataclass
class _Table:
    """Values of all pictures, by metric and convention."""

    values: dict[tuple[str, Convention], list[float]] = field(default_factory=dict)
    has_grey: bool = False

    def add(self, picture: Sequence[_Measured]) -> None:
        """One more picture; what does not depend on the treatment of grey files counts under both."""
        self.has_grey |= any(measured.grey is not None for measured in picture)
        for measured in picture:
            for grey in GREY if measured.grey is None else (measured.grey,):
                for metric, border, variant, value in measured.values:
                    key = metric, Convention(measured.how, measured.color, grey, border, variant)
                    self.values.setdefault(key, []).append(value)

    def scores(self, images: int) -> dict[str, dict[Convention, float]]:
        """Means over the set, without the conventions that lack a picture."""
        found: dict[str, dict[Convention, float]] = {}
        for (metric, key), values in self.values.items():
            if len(values) < images:
                continue
            if not self.has_grey or key.color == "rgb":
                if key.grey == GREY[1]:
                    continue  # the same as the other treatment
                key = replace(key, grey=None)
            if metric == "ssim":
                found.setdefault(metric, {})[key] = float(np.mean(values))
            else:
                means = {"mean of PSNR": float(np.mean([_psnr(mse) for mse in values]))}
                means["PSNR of mean MSE"] = _psnr(float(np.mean(values)))
                for variant, value in means.items():
                    found.setdefault(metric, {})[replace(key, variant=variant)] = value
        return found


class _OneAtATime:
    """A network that several threads share."""

    def __init__(self, method: Callable[[Tensor], Tensor]) -> None:
        self.method, self.lock = method, threading.Lock()

    def __call__(self, lq: Tensor) -> Tensor:
        with self.lock:
            return self.method(lq)


def _psnr(mse: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
