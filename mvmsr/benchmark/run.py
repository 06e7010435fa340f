"""Carry out a plan: every method on every set, everything that can be done, and a list of what could not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mvmsr.benchmark.evaluate import ImageScore, check_luma_first
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.measure import Bench, Count, Progress, folder_name
from mvmsr.benchmark.methods import Method, MethodError, parse_method
from mvmsr.benchmark.plan import Plan, PlanError
from mvmsr.benchmark.results import Results, make_results
from mvmsr.benchmark.statistics import add_statistics
from mvmsr.benchmark.writable import check_folder
from mvmsr.data.layouts import LayoutError
from mvmsr.hardware import pick_device, pick_precision
from mvmsr.metrics.build import build_metrics
from mvmsr.metrics.protocol import Protocol, ProtocolError, make_protocol
from mvmsr.registry import comma_hint

logger = logging.getLogger(__name__)


def run_benchmark(plan: Plan, progress: Progress | None = None, say: Callable[[str], None] = logger.info) -> Results:
    """The results document of a plan.

    A method that cannot be opened, a set that cannot be found and a picture that cannot be scored are listed in
    `failures`, a metric without its weights in `missing`; all else is done. With `plan.out`, every picture's scores
    are kept there as they come, and pictures that were measured under equal conditions before are taken over.

    Args:
        say: told before anything is measured what cannot be, what is taken over from before and what is not.

    Raises:
        PlanError: two methods or two sets share a name, no method or no set can be used, the protocol cannot use the
            set's low-quality files, or `plan.out` cannot be written.
        ProtocolError, RegistryError, ValueError: an unknown protocol, metric or device.
    """
    protocol = make_protocol(plan.protocol, plan.scale, plan.crop_border)
    if protocol.luma_first and plan.lq != "make":
        raise PlanError(f"protocol {plan.protocol!r} makes its own low-quality luma; it cannot take lq: {plan.lq}")
    device = pick_device(plan.device)
    metrics, missing = build_metrics(plan.metrics, device=str(device), weights_dir=plan.weights_dir)
    failures: list[dict[str, str | None]] = []
    methods = _methods(plan, protocol, failures)
    sets = _sets(plan, failures)
    for what, found in (("method", methods), ("set", sets)):
        if not found:
            why = _reasons([entry for entry in failures if entry[what]])
            raise PlanError(f"nothing was measured, and nothing written, for no {what} can be used:\n{why}")
    if plan.out:
        check_folder(Path(plan.out))
        if plan.save_images:
            _refuse_one_folder_of_two([method.name for method in methods])
            _refuse_one_folder_of_two([image_set.name for image_set in sets])
    for entry in missing:
        say(f"{entry.metric} will not be computed: {entry.why}")
    for failure in failures:
        say(f"{failure['method'] or failure['set']} is left out, the rest is measured: {failure['why']}")
    bench = Bench(plan, protocol, metrics, device, sets, Count(progress, len(methods) * sum(map(len, sets))))
    remembered = [bench.remember(method) for method in methods]
    bench.report(say)
    about = []
    scores: list[ImageScore] = []
    for method, known in zip(methods, remembered, strict=True):
        measured, cost = bench.measure(method, known, failures)
        scores += measured
        about.append({**method.as_dict(), "cost": cost})
    if not scores:
        raise PlanError("nothing was measured, and nothing written:\n" + _reasons(failures))
    results = make_results(
        scores,
        protocol,
        metrics,
        missing=missing,
        failures=failures,
        methods=about,
        device=str(device),
        lq=plan.lq,
        precision=pick_precision(plan.precision, device),
    )
    return add_statistics(results)


def is_complete(results: Results, allow_missing: bool = False) -> bool:
    """Whether all that was asked for was done.

    Single pictures that are too small for a metric do not count against it; a metric without any score for a method
    on a set does, unless `allow_missing`.
    """
    lacking = any("image" not in entry for entry in results["missing"])
    empty = any(row[key] is None for row in results["means"] if row["images"] for key in results["metrics"])
    return not results["failures"] and (allow_missing or not (lacking or empty))


def _reasons(failures: Sequence[Mapping[str, str | None]]) -> str:
    return "\n".join(str(failure["why"]) for failure in failures)


def _methods(plan: Plan, protocol: Protocol, failures: list[dict[str, str | None]]) -> list[Method]:
    methods: list[Method] = []
    for spec in plan.methods:
        try:
            method = parse_method(spec, plan.scale, plan.device, plan.precision)
            check_luma_first(protocol, method.source is None, method.name)
        except (MethodError, ProtocolError) as error:
            failures.append({"method": spec, "set": None, "image": None, "why": f"{error}{comma_hint(spec)}"})
            continue
        if any(method.name == other.name for other in methods):
            bare = spec.removeprefix(f"{method.name}=")
            raise PlanError(f"two methods are called {method.name!r}; give one a label, as in other={bare}")
        methods.append(method)
    return methods


def _refuse_one_folder_of_two(names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        # Names that differ in case alone are one folder on most computers other than Linux.
        other = seen.setdefault(folder_name(name).casefold(), name)
        if other != name:
            raise PlanError(
                f"{other!r} and {name!r} would write the same images, below {folder_name(name)}; give one another "
                "name, or use --no-save-images"
            )


def _sets(plan: Plan, failures: list[dict[str, str | None]]) -> list[ImageSet]:
    sets: dict[str, ImageSet] = {}
    for name in plan.sets:
        try:
            image_set = load_image_set(name, plan.data_root, plan.scale, plan.lq)
        except LayoutError as error:
            failures.append({"method": None, "set": name, "image": None, "why": f"{error}{comma_hint(name)}"})
            continue
        if image_set.name in sets:
            raise PlanError(f"two sets are called {image_set.name!r}, the last is {name}; measure them apart")
        sets[image_set.name] = image_set
    return list(sets.values())
