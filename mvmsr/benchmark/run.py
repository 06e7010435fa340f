"""Carry out a plan: every method on every set, everything that can be done, and a list of what could not."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mvmsr.benchmark.evaluate import ImageScore, evaluate
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.methods import Method, MethodError, parse_method
from mvmsr.benchmark.plan import Plan, PlanError
from mvmsr.benchmark.results import Results, make_results
from mvmsr.data.image_io import write_rgb
from mvmsr.data.layouts import LayoutError
from mvmsr.hardware import pick_device
from mvmsr.metrics.build import build_metrics
from mvmsr.metrics.protocol import ProtocolError, make_protocol

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with pictures done, pictures in all, and what is being done."""


def run_benchmark(plan: Plan, progress: Progress | None = None) -> Results:
    """The results document of a plan.

    A method that cannot be opened, a set that cannot be found and a picture that cannot be scored are listed in
    `failures`, a metric without its weights in `missing`; all else is done.

    Raises:
        PlanError: two methods share a name, or the protocol cannot use the set's low-quality files.
        ProtocolError, RegistryError, ValueError: an unknown protocol, metric or device.
    """
    protocol = make_protocol(plan.protocol, plan.scale, plan.crop_border)
    if protocol.luma_first and plan.lq == "file":
        raise PlanError(f"protocol {plan.protocol!r} makes its own low-quality luma; it cannot take lq: file")
    device = pick_device(plan.device)
    metrics, missing = build_metrics(plan.metrics, device=str(device), weights_dir=plan.weights_dir)
    failures: list[dict[str, str | None]] = []
    methods = _methods(plan, failures)
    sets = _sets(plan, failures)
    counter = _Counter(progress, len(methods) * sum(len(image_set) for image_set in sets))
    scores: list[ImageScore] = []
    for method in methods:
        counter.show(f"opening {method.name}")
        try:
            restore = method.open()
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            failures.append({"method": method.name, "set": None, "image": None, "why": str(error)})
            counter.leave_out(sum(len(image_set) for image_set in sets))
            continue
        for image_set in sets:
            counter.show(f"{method.name} on {image_set.name}")

            def on_image(score: ImageScore, sr: np.ndarray | None) -> None:
                if plan.save_images and plan.out and sr is not None:
                    write_rgb(_picture_path(plan.out, score), sr)
                counter.advance()

            try:
                scores += evaluate(restore, image_set, metrics, protocol, on_image, method.name)
            except ProtocolError as error:
                failures.append({"method": method.name, "set": image_set.name, "image": None, "why": str(error)})
                counter.leave_out(len(image_set))
        del restore
    return make_results(
        scores,
        protocol,
        metrics,
        missing=missing,
        failures=failures,
        methods=[method.as_dict() for method in methods],
        device=str(device),
        lq=plan.lq,
    )


def is_complete(results: Results, allow_missing: bool = False) -> bool:
    """Whether all that was asked for was done.

    Single pictures that are too small for a metric do not count against it; a metric without any score for a method
    on a set does, unless `allow_missing`.
    """
    lacking = any("image" not in entry for entry in results["missing"])
    empty = any(row[key] is None for row in results["means"] if row["images"] for key in results["metrics"])
    return not results["failures"] and (allow_missing or not (lacking or empty))


def _methods(plan: Plan, failures: list[dict[str, str | None]]) -> list[Method]:
    methods: list[Method] = []
    for spec in plan.methods:
        try:
            method = parse_method(spec, plan.scale, plan.device, plan.precision)
        except MethodError as error:
            failures.append({"method": spec, "set": None, "image": None, "why": str(error)})
            continue
        if any(method.name == other.name for other in methods):
            raise PlanError(f"two methods are called {method.name!r}; give one a label, as in other={spec}")
        methods.append(method)
    return methods


def _sets(plan: Plan, failures: list[dict[str, str | None]]) -> list[ImageSet]:
    sets = []
    for name in plan.sets:
        try:
            sets.append(load_image_set(name, plan.data_root, plan.scale, plan.lq))  # type: ignore[arg-type]
        except LayoutError as error:
            failures.append({"method": None, "set": name, "image": None, "why": str(error)})
    return sets


def _picture_path(out: str, score: ImageScore) -> Path:
    method, set_name, image = (re.sub(r"[^\w.+-]", "_", part) for part in (score.method, score.set, score.image))
    return Path(out) / "images" / method / set_name / f"{image}.png"


class _Counter:
    """Pictures done and to do, shown to whoever wants to see them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done, self.label = progress, total, 0, ""

    def show(self, label: str) -> None:
        self.label = label
        if self.progress is not None:
            self.progress(self.done, self.total, label)

    def advance(self) -> None:
        self.done += 1
        self.show(self.label)

    def leave_out(self, pictures: int) -> None:
        self.total -= pictures
        self.show(self.label)
