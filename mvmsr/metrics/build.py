"""From the names that commands and options files use to metric objects; BasicSR's names are understood here only."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvmsr.metrics.metric import FidelityMetric, Metric
from mvmsr.metrics.under_protocol import UnderProtocol
from mvmsr.pretrained import MissingWeights
from mvmsr.registry import METRICS, RegistryError, comma_hint, did_you_mean

PYIQA_PREFIX = "pyiqa:"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lpips_vgg": ("lpips", {"net": "vgg"}),
    "st_lpips_vgg": ("st_lpips", {"net": "vgg"}),
    "niqe_y": ("niqe", {"luma": "y"}),
    "calculate_psnr": ("psnr", {}),
    "calculate_ssim": ("ssim", {}),
    "calculate_niqe": ("niqe", {"luma": "y"}),
}
"""Names that stand for a registered metric with arguments."""

_CROPPED_NIQE = re.compile(r"(niqe|niqe_y)_crop(\d{1,4})")
_UNDER_PROTOCOL = re.compile(r"(psnr|ssim)_(y|y_float|rgb|rgb_zero_pad)(?:_crop(\d{1,4}))?")


@dataclass(frozen=True)
class MissingMetric:
    """A metric that was asked for and cannot be computed here."""

    metric: str
    why: str
    """One line: what is missing, and the command that mends it."""


def metric_names() -> list[str]:
    """Our own names, sorted.

    `build_metric` also accepts `pyiqa:NAME` for the metrics of pyiqa, and names that end as protocols do:
    `niqe_y_crop4`; `psnr_rgb` or `ssim_y_float_crop0`, measured by that protocol and not by the run's.
    """
    return sorted({*METRICS.names(), *VARIANTS})


def build_metric(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    weights_dir: str | Path | None = None,
) -> Metric:
    """The metric of that name, ours or `pyiqa:NAME`.

    Args:
        arguments: further arguments of its constructor; `device` and `weights_dir` reach those that take them.

    Raises:
        RegistryError: no such metric.
        ValueError: an argument that it does not take.
        MissingWeights: it needs a file that is not on this machine.
    """
    if "," in name:
        raise RegistryError(f"unknown metric {name!r}.{comma_hint(name)}")
    if found := _UNDER_PROTOCOL.fullmatch(name):
        metric = build_metric(found[1], arguments)
        assert isinstance(metric, FidelityMetric)
        return UnderProtocol(name, metric, found[2], None if found[3] is None else int(found[3]))
    cls, preset = _constructor(name)
    accepted = inspect.signature(cls).parameters
    chosen = {**preset, **(arguments or {})}
    for key in chosen:
        if key not in accepted:
            listed = ", ".join(accepted) or "none"
            raise ValueError(f"metric {name!r} takes no {key!r}.{did_you_mean(key, accepted)} It takes: {listed}.")
    surroundings = {"device": device, "weights_dir": weights_dir}
    return cls(**{key: value for key, value in surroundings.items() if key in accepted}, **chosen)


def _constructor(name: str) -> tuple[Callable[..., Metric], dict[str, Any]]:
    """The class behind a name, and the arguments that the name stands for."""
    if name.startswith(PYIQA_PREFIX):
        from mvmsr.metrics.pyiqa_metric import Pyiqa  # pyiqa takes seconds to import

        return Pyiqa, {"metric": name.removeprefix(PYIQA_PREFIX)}
    border = {}
    if found := _CROPPED_NIQE.fullmatch(name):
        name, border = found[1], {"crop_border": int(found[2])}
    type_name, preset = VARIANTS.get(name, (name, {}))
    if type_name not in METRICS:
        ours = [known for known in metric_names() if not known.startswith("calculate_")]
        raise RegistryError(
            f"unknown metric {name!r}.{did_you_mean(name, ours)} Known: {', '.join(ours)}, and {PYIQA_PREFIX}NAME."
        )
    return METRICS.get(type_name), {**preset, **border}


def build_metrics(
    names: Iterable[str], *, device: str = "auto", weights_dir: str | Path | None = None
) -> tuple[dict[str, Metric], list[MissingMetric]]:
    """Those of the metrics that this machine can compute, by name, and the others with the reason.

    Raises:
        RegistryError: a name that no metric has.
    """
    metrics: dict[str, Metric] = {}
    missing: list[MissingMetric] = []
    for name in names:
        try:
            metric = build_metric(name, device=device, weights_dir=weights_dir)
            metrics[metric.name] = metric
        except MissingWeights as error:
            missing.append(MissingMetric(name, error.in_short))
    return metrics, missing
