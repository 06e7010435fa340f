"""The optimizer and the schedule of an options file, and the clipping of gradients."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from mvmsr.config import Problem, TrainOptions
from mvmsr.engine.arguments import accepted_arguments
from mvmsr.engine.contiguous_step import with_contiguous_steps
from mvmsr.engine.distributed_group import is_sharded
from mvmsr.engine.schedule import SCHEDULES, Schedule, constant, never_reached, warm_up

# Optimizers that have a fused step, and where.
_FUSED, _FUSED_ON = ("Adam", "AdamW", "SGD"), ("cuda", "cpu")


def build_optimizer(
    options: TrainOptions, key: str, module: nn.Module, device: torch.device, precision: str
) -> Optimizer:
    """The optimizer of a key of `train` for what is trained of the network; fused where that works.

    Raises:
        OptionsError: it refuses its arguments.
    """
    spec = getattr(options.train, key)
    args = {"lr": spec.lr, **spec.args}
    # A fused optimizer unscales float16's gradients within its step, too late for their norm and for clipping.
    if not {"fused", "foreach", "differentiable"} & set(args) and spec.type in _FUSED and device.type in _FUSED_ON:
        args["fused"] = precision != "16-mixed"
    if spec.type == "SGD" and any(map(is_sharded, module.parameters())):
        args["fused"] = False  # PyTorch's fused SGD does not take pieces
    kind = getattr(torch.optim, spec.type)
    if args.get("fused") and device.type == "cpu":
        kind = with_contiguous_steps(kind)
    try:
        return kind([p for p in module.parameters() if p.requires_grad], **args)
    except (ValueError, TypeError, RuntimeError) as error:
        raise options.error(("train", key), f"{spec.type} refuses its arguments: {error}") from error


def build_schedule(options: TrainOptions, base_lr: float) -> Schedule:
    """The factor of an initial learning rate by iteration, warm-up included.

    Raises:
        OptionsError: the scheduler refuses its arguments.
    """
    spec, train = options.train.scheduler, options.train
    schedule = constant()
    if spec is not None:
        try:
            make = SCHEDULES[spec.type]
            run = accepted_arguments(make, {"base_lr": base_lr, "total_iter": train.total_iter})
            schedule = make(**spec.args, **run)
        except ValueError as error:
            raise options.error(("train", "scheduler"), str(error)) from error
    return warm_up(schedule, train.warmup_iter)


def schedule_misfits(options: TrainOptions) -> list[Problem]:
    """What the run never comes to of what its options plan, as where they are those of a longer run; no error."""
    train, args = options.train, {} if options.train.scheduler is None else options.train.scheduler.args
    found = never_reached(args.get("milestones", ()), args.get("periods", ()), train.warmup_iter, train.total_iter)
    sections = {"warmup_iter": ("train",)}
    problems = [options.problem((*sections.get(k, ("train", "scheduler")), k), text) for k, text in found.items()]
    for key, network, missed in (
        ("match_after_iter", options.network_m, "terms under the metric network never count"),
        ("net_d_init_iters", options.network_d, "generator is never trained"),
    ):
        if network is not None and getattr(train, key) >= train.total_iter:
            text = f"{getattr(train, key)} is not below total_iter {train.total_iter}, so the {missed}"
            problems.append(options.problem(("train", key), text))
    return problems


def clip_gradients(fabric: Fabric, max_norm: float | None, network: nn.Module, optimizer: Optimizer) -> Tensor:
    """The norm of all gradients, which are then clipped to `max_norm` where there is one."""
    if max_norm is not None:
        norm = fabric.clip_gradients(network, optimizer, max_norm=max_norm, error_if_nonfinite=False)
        assert norm is not None  # None only when values are clipped, not norms
        return norm
    fabric.strategy.precision.unscale_gradients(getattr(optimizer, "optimizer", optimizer))  # no-op but for 16-mixed
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
