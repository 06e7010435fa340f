"""Real-ESRGAN's options files: half of what its data set needs stands at their top level, and is moved there."""

from __future__ import annotations

import logging
from typing import Any

from mvmsr.config.errors import Problem
from mvmsr.config.yaml_source import Source, shown

log = logging.getLogger(__name__)

NET, GAN = "RealESRNetModel", "RealESRGANModel"
_DATA_SET = "RealESRGANDataset"
_OF_A_ROUND = (
    *("resize_prob", "resize_range", "gaussian_noise_prob", "noise_range", "poisson_scale_range", "gray_noise_prob"),
    "jpeg_range",
)
_MOVED = (*_OF_A_ROUND, *(f"{key}2" for key in _OF_A_ROUND), "second_blur_prob", "gt_size", "gt_usm")
_SHARPENED = ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
_TRAIN = ("datasets", "train")


def translate_realesrgan(values: dict[str, Any], model_type: str, source: Source) -> list[Problem]:
    """Change `values` of a file with this `model_type` so that its data set has all of its arguments.

    Says in the log where sharpening is done otherwise than the file asks for.
    """
    datasets = values.get("datasets")
    train = datasets.get("train") if isinstance(datasets, dict) else None
    if not isinstance(train, dict):
        return []  # said elsewhere
    data_set = train.get("type", "PairedImageDataset")
    if values.pop("high_order_degradation", True) is False or data_set != _DATA_SET:
        for key in (*_MOVED, *_SHARPENED):
            values.pop(key, None)  # so that this is the only problem
        paired = "SRModel" if model_type == NET else "SRGANModel"
        message = f"is for {_DATA_SET}, got {shown(data_set)}; to train on pairs, take {paired} with PairedImageDataset"
        return [source.problem(("model_type",), message)]
    problems = []
    if model_type == GAN:
        _decide_on_sharpening(values)
    if "meta_info" in train:
        train["meta_info_file"] = train.pop("meta_info")
    for key in _MOVED:
        if (given := values.pop(key, None)) is None:
            continue
        if train.get(key, given) != given:
            message = f"is {shown(given)}, but {shown(train[key])} in datasets.train; keep one of them"
            problems.append(source.problem((key,), message))
        train[key] = given
        if (key,) in source.lines:
            source.lines.setdefault((*_TRAIN, key), source.lines[key,])
    return problems


def _decide_on_sharpening(values: dict[str, Any]) -> None:
    """One ground truth is for all terms and for the low-quality crops: sharpened as it is for the pixel loss."""
    asked = {key: values.pop(key, None) is not False for key in _SHARPENED}
    values["gt_usm"] = asked["l1_gt_usm"]
    if not all(asked.values()):
        sharpened = "sharpened" if asked["l1_gt_usm"] else "plain"
        log.warning(
            "%s: here all loss terms, the discriminator and the degradation see the same ground truth, %s as "
            "l1_gt_usm says. Real-ESRGAN gives each term its own, and always degrades the sharpened one.",
            ", ".join(f"{key}: {str(value).lower()}" for key, value in asked.items()),
            sharpened,
        )
