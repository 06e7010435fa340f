"""The networks of an options file, with the weights that they start from."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mvmsr.config import Component, TrainOptions
from mvmsr.engine.misfit import misfit
from mvmsr.inference.failures import why
from mvmsr.inference.state_reading import NoSuchStateError
from mvmsr.inference.weights import WeightsError, find_weights, load_state
from mvmsr.registry import ARCHS

log = logging.getLogger(__name__)

NETWORKS = {"network_g": "generator", "network_d": "discriminator", "network_m": "metric_net"}
"""Options keys of the networks, and what each network is called in code and logs."""


def build_network(options: TrainOptions, key: str) -> nn.Module:
    """The network of an options key, with its first weights.

    Raises:
        OptionsError: its constructor fails, or it has another scale than the options.
    """
    spec: Component = getattr(options, key)
    constructor = ARCHS.get(spec.type)
    try:
        network = constructor(**network_args(options, key))
    except ValueError as error:
        raise options.error((key,), str(error)) from error
    except Exception as error:  # constructors check little of what they are given
        raise options.error((key,), f"{spec.type} cannot be built: {why(error)}") from error
    # Networks that do not say it are found out by the rehearsal.
    scale = getattr(network, "scale", getattr(network, "upscale", options.scale))
    if key == "network_g" and scale != options.scale:
        raise options.error((key,), f"{spec.type} upscales by {scale}, but scale is {options.scale}")
    return network


def network_args(options: TrainOptions, key: str) -> dict[str, Any]:
    """The constructor arguments of a network; `upscale` follows `scale` when it is not written down."""
    spec: Component = getattr(options, key)
    takes_upscale = "upscale" in inspect.signature(ARCHS.get(spec.type)).parameters
    return {**({"upscale": options.scale} if takes_upscale else {}), **spec.args}


def load_pretrained(options: TrainOptions, modules: dict[str, nn.Module]) -> None:
    """Load the weights that `path.pretrain_network_*` names.

    Raises:
        OptionsError: they cannot be found or read, or do not fit.
    """
    for key, name in NETWORKS.items():
        option = f"pretrain_network_{key[-1]}"
        given = getattr(options.path, option)
        if given is None or name not in modules:
            continue
        paths, part = options.path, "d" if name == "discriminator" else "g"
        try:
            path = find_weights(given, Path(paths.experiments_root))
            state = load_state(path, prefer=getattr(paths, f"param_key_{part}"))
        except NoSuchStateError as error:
            raise options.error(("path", f"param_key_{part}"), str(error)) from error
        except WeightsError as error:
            raise options.error(("path", option), str(error)) from error
        strict = getattr(paths, f"strict_load_{part}")
        if not strict:
            state, misfits = _what_fits(state, modules[name])
            if misfits:
                log.warning("%s: left out for their shape: %s", path, "; ".join(misfits))
        try:
            left = modules[name].load_state_dict(state, strict=strict)
        except RuntimeError as error:
            loosely = f"path.strict_load_{part}: false takes up what fits"
            message = (
                f"{path} does not fit {getattr(options, key).type}: {misfit(state, modules[name]) or why(error)}. Give "
                f"{key} the arguments that these weights were trained with, or name other weights; {loosely}"
            )
            raise options.error(("path", option), message) from error
        log.info("Loaded %s from %s%s", name, path, f" ({left})" if left.missing_keys or left.unexpected_keys else "")


def _what_fits(state: dict[str, Tensor], network: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The entries that the network can take, and a line for each that has another shape there."""
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    misfits = {name: v.shape for name, v in state.items() if wanted.get(name, v.shape) != v.shape}
    fits = {name: value for name, value in state.items() if name not in misfits}
    return fits, [f"{name} is {tuple(shape)} there, {tuple(wanted[name])} here" for name, shape in misfits.items()]
