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


def build_network(options: TrainOptions, key: str, continued: Path | None = None) -> nn.Module:
    """The network of an options key, with its first weights.

    Args:
        continued: the folder of a run whose checkpoint will replace the weights; those that it saved tell the network
            where the file of a `spandrel` network is gone.

    Raises:
        OptionsError: its constructor fails, or it has another scale than the options.
    """
    spec: Component = getattr(options, key)
    constructor, args = ARCHS.get(spec.type), network_args(options, key)
    if spec.type == "spandrel" and continued is not None:
        args = _with_file(args, continued)
    try:
        network = constructor(**args)
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


def _with_file(args: dict[str, Any], run: Path) -> dict[str, Any]:
    """Arguments of a `spandrel` network that name the run's own weights where the file that it began from is gone."""
    if Path(args["path"]).is_file():
        return args
    try:
        weights = find_weights(run.absolute())  # else a run may have the name of a built-in model
    except WeightsError:
        return args
    log.info("%s is gone; the network is recognised from %s", args["path"], weights)
    return {**args, "path": str(weights)}


def load_pretrained(options: TrainOptions, modules: dict[str, nn.Module]) -> None:
    """Load the weights that `path.pretrain_network_*` names.

    Raises:
        OptionsError: they cannot be found or read, are not finite, or do not fit.
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
        if broken := next((e for e, value in state.items() if not bool(value.float().isfinite().all())), None):
            message = f"{path}: {broken} holds values that are not finite; its training diverged or the file is damaged"
            raise options.error(("path", option), f"{message}. Name other weights, such as an earlier save's")
        try:
            _take_up(path, state, modules[name], name, strict=getattr(paths, f"strict_load_{part}"))
        except _MisfitError as error:
            spec: Component = getattr(options, key)
            remedy = f"Give {key} the arguments that these weights were trained with, or name other weights"
            loosely = "" if error.entirely else f"; path.strict_load_{part}: false takes up what fits"
            message = f"{path} does not fit {spec.type}: {error}. {remedy}{loosely}"
            raise options.error(("path", option), message) from error


class _MisfitError(Exception):
    """A state and a network of different shapes; `entirely` where nothing would be left."""

    def __init__(self, message: str, entirely: bool) -> None:
        super().__init__(message)
        self.entirely = entirely


def _take_up(path: Path, state: dict[str, Tensor], network: nn.Module, name: str, strict: bool) -> None:
    """Load a state, or with `strict` off what fits of it, and log how much that was.

    Raises:
        _MisfitError: nothing fits, or not all does and `strict` is on.
    """
    own = network.state_dict()
    reshaped = [entry for entry, value in state.items() if entry in own and own[entry].shape != value.shape]
    fitting = {entry: value for entry, value in state.items() if entry not in reshaped}
    difference = misfit(state, network)
    try:
        left = network.load_state_dict(state if strict else fitting, strict=strict)
    except RuntimeError as error:
        raise _MisfitError(difference or why(error), not any(map(_is_trained, own.keys() & fitting.keys()))) from error
    taken = [entry for entry in own if entry not in left.missing_keys]
    if not any(map(_is_trained, taken)):
        raise _MisfitError(f"none of its {len(state)} tensors can be taken up, as {difference}", entirely=True)
    if reshaped:
        shapes = [f"{entry} is {tuple(state[entry].shape)} there, {tuple(own[entry].shape)} here" for entry in reshaped]
        log.warning("%s: left out for their shape: %s", path, "; ".join(_first(shapes)))
    absent = [entry for entry in left.missing_keys if entry not in reshaped]
    rest = f"; {len(absent)} absent in the file ({', '.join(_first(absent))})" if absent else ""
    if unused := left.unexpected_keys:
        rest += f"; {len(unused)} of the file not used ({', '.join(_first(unused))})"
    log.info("Loaded %s from %s: %d of its %d tensors%s", name, path, len(taken), len(own), rest)


def _is_trained(entry: str) -> bool:
    """Whether an entry says more of its network than a count of batches, which fits networks of any size."""
    return not entry.endswith("num_batches_tracked")


def _first(names: list[str]) -> list[str]:
    """A few of many names."""
    return names if len(names) <= 4 else [*names[:3], "..."]
