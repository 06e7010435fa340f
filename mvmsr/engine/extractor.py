"""The frozen network of a perceptual or naturalness term, with its trained weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvmsr import archs
from mvmsr.engine.arguments import accepted_arguments
from mvmsr.hardware import autocast
from mvmsr.inference.weights import WeightsError, load_state, read_info
from mvmsr.pretrained import FILES, MissingWeights, locate

log = logging.getLogger(__name__)


def find_extractor_weights(constructor: Any, args: dict[str, Any]) -> Path:
    """The file that holds the trained weights of a term's frozen network: one of `pretrained.FILES`, or a path.

    Raises:
        MissingWeights: it is not on this machine; the message says how to get it.
        ValueError: an argument of the term that makes no network.
    """
    weights = str(_spec(constructor, args)["weights"])
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


def build_extractor(constructor: Any, args: dict[str, Any]) -> nn.Module:
    """The network that `constructor.extractor_spec` asks for under a term's options, on the CPU.

    Raises:
        MissingWeights: its weights are not on this machine; the message says how to get them.
        ValueError: the file holds another network.
    """
    path = find_extractor_weights(constructor, args)
    spec = _spec(constructor, args)
    spec.pop("weights")
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
