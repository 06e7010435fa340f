"""From the names that commands and options files use to metric objects; BasicSR's names are understood here only."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mvmsr.metrics.metric import Metric
from mvmsr.metrics.protocol import Protocol, make_protocol
from mvmsr.pretrained import MissingWeights
from mvmsr.registry import METRICS, did_you_mean

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lpips_vgg": ("lpips", {"net": "vgg"}),
    "niqe_y": ("niqe", {"luma": "y"}),
    "calculate_psnr": ("psnr", {}),
    "calculate_ssim": ("ssim", {}),
    "calculate_niqe": ("niqe", {"luma": "y"}),
}
"""Names that stand for a registered metric with arguments."""

_IGNORED = ("better", "num_thread", "input_order")
"""Keys of BasicSR's metric options that change no value here."""


@dataclass(frozen=True)
class MissingMetric:
    """A metric that was asked for and cannot be computed here."""

    metric: str
    why: str


def metric_names() -> list[str]:
    """Every name that `build_metric` accepts."""
    return sorted({*METRICS.names(), *VARIANTS})


def build_metric(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    weights_dir: str | Path | None = None,
) -> Metric:
    """The metric of that name.

    Args:
        arguments: further arguments of its constructor; `device` and `weights_dir` reach those that take them.

    Raises:
        RegistryError: no such metric.
        ValueError: an argument that it does not take.
        MissingWeights: it needs a file that is not on this machine.
    """
    type_name, preset = VARIANTS.get(name, (name, {}))
    cls = METRICS.get(type_name)
    accepted = inspect.signature(cls).parameters
    chosen = {**preset, **(arguments or {})}
    for key in chosen:
        if key not in accepted:
            listed = ", ".join(accepted) or "none"
            raise ValueError(f"metric {name!r} takes no {key!r}.{did_you_mean(key, accepted)} It takes: {listed}.")
    surroundings = {"device": device, "weights_dir": weights_dir}
    return cls(**{key: value for key, value in surroundings.items() if key in accepted}, **chosen)


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
            missing.append(MissingMetric(name, str(error)))
    return metrics, missing


def metric_from_options(
    options: Mapping[str, Any], scale: int, *, device: str = "auto", weights_dir: str | Path | None = None
) -> Metric:
    """One entry of an options file's `val.metrics`, ours or BasicSR's.

    `{type: psnr, protocol: y}` or `{type: calculate_psnr, crop_border: 4, test_y_channel: true}`. An entry without
    protocol, border and channel takes the protocol of the call.

    Raises:
        ValueError: `type` is absent, or a key that the metric does not take.
        RegistryError, ProtocolError, MissingWeights: as `build_metric` and `make_protocol`.
    """
    rest = {key: value for key, value in options.items() if key not in _IGNORED}
    if "type" not in rest:
        raise ValueError(f"a metric needs `type`; one of {', '.join(metric_names())}")
    name = rest.pop("type")
    protocol: Protocol | None = None
    if "protocol" in rest:
        protocol = make_protocol(rest.pop("protocol"), scale)
    elif "test_y_channel" in rest or ("crop_border" in rest and "niqe" not in name):
        # BasicSR compares all three channels and crops nothing unless told otherwise.
        protocol = make_protocol("y_float" if rest.pop("test_y_channel", False) else "rgb", scale)
        border = int(rest.pop("crop_border", 0))
        if border != protocol.crop_border:
            protocol = replace(protocol, name=f"{protocol.name}_crop{border}", crop_border=border)
    metric = build_metric(name, rest, device=device, weights_dir=weights_dir)
    return metric if protocol is None else UnderProtocol(metric, protocol)


class UnderProtocol(Metric):
    """A metric that keeps to its own protocol whatever the caller's is."""

    def __init__(self, metric: Metric, protocol: Protocol) -> None:
        self.metric = metric
        self.protocol = protocol
        self.name = metric.name
        self.higher_is_better = metric.higher_is_better
        self.needs_gt = metric.needs_gt
        self.decimals = metric.decimals

    def __call__(self, sr: np.ndarray, gt: np.ndarray | None, protocol: Protocol) -> float:
        """The score under this metric's own protocol."""
        return self.metric(sr, gt, self.protocol)

    def limitation(self, height: int, width: int, protocol: Protocol) -> str | None:
        """Why a picture of this size cannot be scored."""
        return self.metric.limitation(height, width, self.protocol)
