"""The frozen feature network of a perceptual term, with its pretrained weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from mvmsr import archs
from mvmsr.engine.arguments import accepted_arguments
from mvmsr.pretrained import locate


def build_extractor(constructor: Any, args: dict[str, Any]) -> nn.Module:
    """The network that `constructor.extractor_spec` asks for under a term's options.

    Raises:
        MissingWeights: its weights are not on this machine; the message says how to get them.
    """
    spec = constructor.extractor_spec(**accepted_arguments(constructor.extractor_spec, args))
    network = getattr(archs, spec.pop("type"))
    return network(**spec, weights_path=str(locate(spec["vgg_type"])))
