"""The frozen network, with its trained weights, of a term that judges by one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvmsr import archs
from mvmsr.engine.arguments import accepted_arguments
from mvmsr.engine.quality_judge import QualityJudge
from mvmsr.hardware import autocast
from mvmsr.inference.weights import WeightsError, load_state, read_info
from mvmsr.pretrained import FILES, MissingWeights, locate

log = logging.getLogger(__name__)


_METRIC = "pyiqa"
"""The `type` of an extractor that is no network of ours, but a metric of that package."""


def require_extractor(constructor: Any, args: dict[str, Any]) -> None:
    """That what a term judges by can be had; its weights are not read yet, but for a metric's.

    Raises:
        MissingWeights: its weights are not on this machine; the message says how to get them.
        ValueError: an argument of the term that makes no network.
    """
    spec = _spec(constructor, args)
    if spec["type"] == _METRIC:
        QualityJudge(spec["weights"], torch.device("cpu"))
    else:
        _find_weights(str(spec["weights"]))


def _find_weights(weights: str) -> Path:
    """The file of trained weights that is one of `pretrained.FILES`, or a path.

    Raises:
        MissingWeights: it is not on this machine; the message says how to get it.
    """
    if weights in FILES:
        return locate(weights)
    path = Path(weights).expanduser()
    if not path.is_file():
        known = ", ".join(FILES)
        raise MissingWeights(f"no weights file at {path}; give the path of one, or one of the names: {known}")
    return path


class InPrecision(nn.Module):
    """A frozen network in the run's precision; what it returns is float32.

    Args:
        network: images to a tensor, or to a dict of them.
        precision: as `pick_precision` gives it.
    """

    def __init__(self, network: nn.Module, device: torch.device, precision: str, channels_last: bool) -> None:
        super().__init__()
        self.network = network.to(device)
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.device, self.precision = device, precision

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        with autocast(self.device, self.precision):
            found = self.network(images)
        if isinstance(found, Tensor):
            return found.float()
        return {name: features.float() for name, features in found.items()}


def build_extractor(
    constructor: Any, args: dict[str, Any], device: torch.device, precision: str, channels_last: bool
) -> nn.Module:
    """What `constructor.extractor_spec` asks for under a term's options.

    Raises:
        MissingWeights: its weights are not on this machine; the message says how to get them.
        ValueError: the file holds another network.
    """
    spec = _spec(constructor, args)
    if spec["type"] == _METRIC:
        return QualityJudge(spec["weights"], device)
    return InPrecision(_network(constructor, spec), device, precision, channels_last)


def _network(constructor: Any, spec: dict[str, Any]) -> nn.Module:
    """The network of an options entry with a `type` and its `weights`, on the CPU."""
    path = _find_weights(str(spec.pop("weights")))
    kind = spec.pop("type")
    log.info("%s judges by a frozen %s with the weights of %s", constructor.__name__, kind, path)
    if kind == "VGGFeatures":
        return archs.VGGFeatures(**spec, weights_path=str(path))
    try:
        info, state = read_info(path), load_state(path)
        if info.arch != kind:
            raise ValueError(f"{path} holds {info.arch}, {constructor.__name__} needs {kind}")
        network: nn.Module = getattr(archs, kind)(**info.args)
        network.load_state_dict(state)
    except (WeightsError, RuntimeError) as error:
        raise ValueError(f"{constructor.__name__} cannot use {path}: {error}") from error
    return network


def _spec(constructor: Any, args: dict[str, Any]) -> dict[str, Any]:
    return dict(constructor.extractor_spec(**accepted_arguments(constructor.extractor_spec, args)))
