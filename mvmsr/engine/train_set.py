"""What can be said about the training pictures before they are packed, with the key that it is about."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mvmsr.config import OptionsError, Problem, TrainOptions
from mvmsr.config.schema import RunOptions
from mvmsr.data.layouts import LayoutError, MissingDataError, resolve_dataroot, template_problem
from mvmsr.data.packing import PairError
from mvmsr.data.paired_dataset import PairedImageDataset, check_pictures
from mvmsr.engine.arguments import accepted_arguments
from mvmsr.registry import DATASETS

_KEYS = ("datasets", "train")


def train_set_problems(options: TrainOptions) -> list[Problem]:
    """Arguments of the built-in data set whose values cannot be right, whatever lies on the disk."""
    spec, kind = options.datasets.train, paired_kind(options)
    if kind is None:
        return []
    args, problems = spec.args, []
    gt_size, scale = spec.gt_size, options.scale
    if gt_size < scale or gt_size % scale:
        use = max(gt_size - gt_size % scale, scale)
        message = f"gt_size must be a positive multiple of scale {scale}, got {gt_size}; use {use}"
        problems.append(options.problem((*_KEYS, "gt_size"), message))
    if not args["dataroot_gt"]:
        problems.append(options.problem((*_KEYS, "dataroot_gt"), "dataroot_gt names no folder"))
    if message := template_problem(args.get("filename_tmpl", "{}"), scale):
        problems.append(options.problem((*_KEYS, "filename_tmpl"), message))
    try:
        kind.check_options(args)
    except ValueError as error:
        problems.append(options.problem((*_KEYS, str(error).split()[0]), str(error)))
    return problems


def absent_folders(options: TrainOptions) -> list[Problem]:
    """The folders of the training set that are not on this machine; nothing in those that are is looked at."""
    spec, problems = options.datasets.train, []
    if paired_kind(options) is None:
        return []
    for key in ("dataroot_gt", "dataroot_lq"):
        given = spec.args.get(key) or ()
        for root in [given] if isinstance(given, str) else given:
            try:
                resolve_dataroot(root, spec.args.get("data_root"))
            except MissingDataError as error:
                problems.append(options.problem((*_KEYS, key), str(error)))
    return problems


def missing_pictures(options: TrainOptions) -> str | None:
    """Which folder of the training set is not on this machine, or None; looks at headers only.

    Raises:
        OptionsError: pictures that are here, and do not pair up or cannot be trained on.
        ValueError: arguments that do not go together.
    """
    kind = paired_kind(options)
    if kind is None:
        return None
    args = accepted_arguments(check_pictures, options.datasets.train.args)
    try:
        with data_errors_named(options):
            check_pictures(**{"scale": options.scale, **args, "gt_only": kind.gt_only})
    except OptionsError as error:
        if isinstance(error.__cause__, MissingDataError):
            return str(error)
        raise
    return None


def paired_kind(options: TrainOptions) -> type[PairedImageDataset] | None:
    """PairedImageDataset, or one that differs from it by what is done to its crops only; None if it is neither."""
    kind: Any = DATASETS.get(options.datasets.train.type)
    return kind if inspect.isclass(kind) and issubclass(kind, PairedImageDataset) else None


@contextmanager
def data_errors_named(options: RunOptions) -> Iterator[None]:
    """Inside, what is wrong with folders and pictures of the training set is said with the file, line and key.

    Raises:
        OptionsError: in place of a LayoutError or a PairError.
    """
    try:
        yield
    except LayoutError as error:
        raise options.error((*_KEYS, "dataroot_gt"), str(error)) from error
    except PairError as error:
        raise options.error((*_KEYS, error.option), str(error)) from error
