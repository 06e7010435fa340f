"""Everything in the options that can be known to fail is refused here, before any work."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from mvmsr.config import Component, OptionsError, Problem, TrainOptions
from mvmsr.config.nmd_options import NMDOptions
from mvmsr.engine.arguments import argument_problems
from mvmsr.engine.extractor import require_extractor
from mvmsr.engine.networks import NETWORKS
from mvmsr.engine.schedule import SCHEDULES
from mvmsr.engine.step import NEEDS_NETWORK
from mvmsr.engine.train_set import train_set_problems
from mvmsr.hardware import pick_device, pick_precision
from mvmsr.losses.term import Term
from mvmsr.pretrained import MissingWeights
from mvmsr.registry import ARCHS, DATASETS, LOSSES, Registry, RegistryError, did_you_mean

_USUAL = {"network_g": "SRResNet", "network_d": "SRGANDiscriminator", "network_m": "MetricNet"}
"""What a network is proposed to be where there is none."""

_ONLY_WITH = {
    ("path", "pretrain_network_d"): "network_d",
    ("path", "pretrain_network_m"): "network_m",
    ("train", "net_d_iters"): "network_d",
    ("train", "net_d_init_iters"): "network_d",
    ("train", "match_after_iter"): "network_m",
    ("train", "metric_grad_leak"): "network_m",
}

_UNFIT_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam")
"""No optimizer itself; one that runs the networks again within a step; one for sparse gradients."""


def check(options: TrainOptions) -> None:
    """Check names, constructor arguments and combinations.

    Raises:
        OptionsError: every problem found, with file, line and key.
    """
    problems: list[Problem] = []
    for key in NETWORKS:
        if (spec := getattr(options, key)) is not None:
            problems += _component(options, (key,), spec, ARCHS)
    for name, term in options.train.terms.items():
        problems += _component(options, ("train", f"{name}_opt"), term, LOSSES)
    train_set = options.datasets.train
    problems += _component(options, ("datasets", "train"), train_set, DATASETS, supplied=("scale",))
    for key in ("optim_g", "optim_d", "optim_m"):
        problems += _optimizer(options, key)
    problems += _schedule(options)
    if not problems:
        problems += [*train_set_problems(options), *_objectives(options)]
    if problems := problems or machine_problems(options):
        raise OptionsError(problems)


def machine_problems(options: TrainOptions | NMDOptions) -> list[Problem]:
    """The device where this machine has none such, the precision where the device has not; else nothing."""
    try:
        device = pick_device(options.device)
    except ValueError as error:
        return [options.problem(("device",), str(error))]
    try:
        pick_precision(options.precision, device)
    except ValueError as error:
        return [options.problem(("precision",), str(error))]
    return []


def _component(
    options: TrainOptions, keys: tuple[str, ...], spec: Component, registry: Registry, supplied: tuple[str, ...] = ()
) -> list[Problem]:
    """Problems of a section's `type` and of its arguments against that class's constructor."""
    try:
        constructor: Any = registry.get(spec.type)
    except RegistryError as error:
        return [options.problem((*keys, "type"), str(error))]
    is_term = inspect.isclass(constructor) and issubclass(constructor, Term)
    if registry is LOSSES and not is_term:
        message = (
            f"BasicSR's {spec.type} does not say which network it trains on what, so it cannot be used here. "
            f"Losses of ours: {', '.join(LOSSES.names())}; CONTRIBUTING.md shows how to add one"
        )
        return [options.problem((*keys, "type"), message)]
    has_extractor = is_term and constructor.extractor_spec is not None
    if has_extractor:
        supplied = (*supplied, "extractor")
    found = argument_problems(constructor, {k: v for k, v in spec.args.items() if k not in supplied}, supplied)
    problems = [options.problem((*keys, name), message) for name, message in found]
    if not problems and has_extractor:
        problems += _extractor(options, keys, spec, constructor)
    return problems


def _extractor(options: TrainOptions, keys: tuple[str, ...], spec: Component, constructor: Any) -> list[Problem]:
    """Whether the pretrained network of a term is on this machine; before hours go into packing the pictures."""
    try:
        require_extractor(constructor, spec.args)
    except (ValueError, KeyError, MissingWeights) as error:
        return [options.problem(keys, str(error.args[0]))]
    return []


def _optimizer(options: TrainOptions, key: str) -> list[Problem]:
    spec: Any = getattr(options.train, key)
    known = [n for n, c in vars(torch.optim).items() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)]
    known = [name for name in known if name not in _UNFIT_OPTIMIZERS]
    if spec.type not in known:
        message = f"unknown optimizer {spec.type!r}.{did_you_mean(spec.type, known)} Known: {', '.join(known)}"
        return [options.problem(("train", key, "type"), message)]
    found = argument_problems(getattr(torch.optim, spec.type), {"lr": spec.lr, **spec.args}, ("params",))
    # torch's own annotations say more than its optimizers accept (betas may be a list); names are what matters here.
    return [options.problem(("train", key, n), m) for n, m in found if "unknown" in m or "required" in m]


def _schedule(options: TrainOptions) -> list[Problem]:
    spec = options.train.scheduler
    if spec is None:
        return []
    if spec.type not in SCHEDULES:
        hint = did_you_mean(spec.type, SCHEDULES)
        message = f"unknown scheduler {spec.type!r}.{hint} Known: {', '.join(SCHEDULES)}"
        return [options.problem(("train", "scheduler", "type"), message)]
    found = argument_problems(SCHEDULES[spec.type], spec.args, ("base_lr", "total_iter"), spec.type)
    return [options.problem(("train", "scheduler", name), message) for name, message in found]


def _objectives(options: TrainOptions) -> list[Problem]:
    """Whether every network has an objective and every term its networks."""
    problems: list[Problem] = []
    trained: set[str] = set()
    for name, spec in options.train.terms.items():
        keys = ("train", f"{name}_opt")
        try:
            needs = _needs(spec)
        except ValueError as error:  # a value that the constructor refuses
            problems.append(options.problem(keys, str(error)))
            continue
        trained |= set(needs)
        inputs = {i for names in needs.values() for i in names}
        for unknown in sorted(inputs - set(NEEDS_NETWORK)):
            message = f"{spec.type} asks for {unknown!r}, which no step offers.{did_you_mean(unknown, NEEDS_NETWORK)}"
            problems.append(options.problem(keys, f"{message} It offers: {', '.join(NEEDS_NETWORK)}"))
        needed = {NEEDS_NETWORK.get(i) for i in inputs} | {k for k, n in NETWORKS.items() if n in needs}
        for key in sorted(filter(None, needed)):
            if getattr(options, key) is None:
                add = f"add one, such as {key}: {{type: {_USUAL[key]}}}"
                problems.append(options.problem(keys, f"{spec.type} needs {key}, which these options lack; {add}"))
    if problems:  # what trains nothing because of them is no problem of its own
        return problems
    for (section, key), network in _ONLY_WITH.items():
        owner = getattr(options, section)
        is_set = getattr(owner, key) != type(owner).model_fields[key].default
        if is_set and getattr(options, network) is None:
            message = f"it is for {network}, which these options lack; add that, or take this out"
            problems.append(options.problem((section, key), message))
    for key, network in NETWORKS.items():
        if getattr(options, key) is not None and network not in trained:
            example = {"network_g": "pixel_opt", "network_d": "gan_opt", "network_m": "triplet_opt"}[key]
            problems.append(options.problem((key,), f"no loss term trains it; add one, such as train.{example}"))
    if options.train.update == "simultaneous" and options.precision == "16-mixed":
        problems.append(options.problem(("train", "update"), "simultaneous works in precision 32 and bf16-mixed only"))
    for key in ("recompute_fake", "metric_grad_leak"):
        if options.train.update == "simultaneous" and getattr(options.train, key):
            message = "it is for update: alternating; set that, or take this out"
            problems.append(options.problem(("train", key), message))
    if options.train.recompute_fake and options.network_d is None and options.network_m is None:
        message = "it is for network_d or network_m, which these options lack; add one, or take this out"
        problems.append(options.problem(("train", "recompute_fake"), message))
    return problems


def _needs(spec: Component) -> dict[str, tuple[str, ...]]:
    """The step's tensors that a term asks for, by the objective it belongs to.

    Raises:
        ValueError: the term's constructor refuses a value.
    """
    constructor: Any = LOSSES.get(spec.type)
    args = dict(spec.args)
    if constructor.extractor_spec is not None:
        args["extractor"] = torch.nn.Identity()
    objectives = constructor(**args).objectives()
    return {network: tuple(inspect.signature(function).parameters) for network, function in objectives.items()}
