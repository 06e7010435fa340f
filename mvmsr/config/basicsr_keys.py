"""BasicSR 1.4 options files run unchanged: its keys are translated, or listed once as ignored.

Covers SRModel, SRGANModel, ESRGANModel and SwinIRModel (whose padding is done for any model) with PairedImageDataset,
and Real-ESRGAN's models (see `realesrgan_keys`).
"""

from __future__ import annotations

import logging
from typing import Any

from mvmsr.config.errors import Problem
from mvmsr.config.realesrgan_keys import GAN, NET, translate_realesrgan
from mvmsr.config.yaml_source import Keys, Source, shown
from mvmsr.registry import did_you_mean

log = logging.getLogger(__name__)

MODEL_TYPES = ("SRModel", "SRGANModel", "ESRGANModel", "SwinIRModel", NET, GAN)

# Keys whose work we do by other means: no worker processes, no LMDB, one process per device started by its launcher.
_IGNORED: dict[Keys, tuple[str, ...]] = {
    (): (
        *("num_gpu", "dist_params", "find_unused_parameters", "auto_resume", "is_train", "dist", "rank", "world_size"),
        "queue_size",  # Real-ESRGAN shuffles so many crops, as it resizes those of a batch alike; here each has its own
    ),
    ("datasets", "train"): (
        *("io_backend", "use_shuffle", "num_worker_per_gpu", "prefetch_mode", "num_prefetch_queue", "pin_memory"),
        *("persistent_workers", "phase", "bgr2rgb"),
    ),
    ("path",): ("ignore_resume_networks",),
    ("val",): ("suffix", "pbar"),
    ("logger",): ("wandb",),
}
_VAL_IGNORED = ("io_backend", "phase", "scale")
_METRIC_KEYS = ("type", "crop_border", "test_y_channel", "better", "input_order", "convert_to", "num_thread")
_WIDEST_BORDER = 999


def translate(values: dict[str, Any], source: Source) -> tuple[dict[str, Any], list[Problem]]:
    """A copy of `values` in our schema, and what BasicSR's keys ask for that we do not do.

    Says once in the log which keys were left out.
    """
    values = _copy(values)
    model_type = values.pop("model_type", None)
    if values.get("num_gpu") == 0 and values.get("device") is None:
        values["device"] = "cpu"  # what BasicSR means by none
    problems = [*_model(values, model_type, source), *_files(values, source), *_metrics(values, source)]
    ignored = dict(_IGNORED)
    if model_type not in (None, GAN):
        ignored[("train",)] = ("ldl_opt",)  # BasicSR 1.4.2's models of these names build that loss, and never use it
    ignored |= {("datasets", key): _VAL_IGNORED for key in _section(values, ("datasets",)) if key != "train"}
    dropped: list[str] = []
    for keys, names in ignored.items():
        section = _section(values, keys)
        dropped += [".".join((*keys, name)) for name in names if section.pop(name, None) is not None]
    if dropped:
        log.warning("Options of BasicSR that have no meaning here were ignored: %s", ", ".join(dropped))
    return values, problems


def _model(values: dict[str, Any], model_type: Any, source: Source) -> list[Problem]:
    """What a model's name says about options that do not stand in the file."""
    if model_type is None:
        return []
    if model_type not in MODEL_TYPES:
        hint = did_you_mean(str(model_type), MODEL_TYPES)
        message = f"{shown(model_type)} is not supported.{hint} Supported: {', '.join(MODEL_TYPES)}."
        return [source.problem(("model_type",), message)]
    if values.get("path") is None:
        values["path"] = {}
    path = _section(values, ("path",))
    if path.get("param_key_g") is None:
        path["param_key_g"] = "params"
    if model_type in (NET, GAN):
        return translate_realesrgan(values, model_type, source)
    gan = _section(values, ("train",)).get("gan_opt")
    if model_type == "ESRGANModel" and isinstance(gan, dict):
        # BasicSR's ESRGANModel means the relativistic average GAN, and halves its two terms, whatever `gan_type` says.
        if (gan_type := gan.get("gan_type", "vanilla")) != "vanilla":
            message = f"ESRGANModel is relativistic with gan_type: vanilla, got {shown(gan_type)}"
            return [source.problem(("train", "gan_opt", "gan_type"), message)]
        gan.update(gan_type="relativistic", relativistic_reduction="mean")
    return []


def _files(values: dict[str, Any], source: Source) -> list[Problem]:
    """States and LMDB databases, which are BasicSR's own formats."""
    problems = []
    if _section(values, ("path",)).pop("resume_state", None) is not None:
        message = "BasicSR's .state files cannot be continued; begin with path.pretrain_network_g, or use --auto-resume"
        problems.append(source.problem(("path", "resume_state"), message))
    remedy = "name folders of images in dataroot_gt and dataroot_lq; the first start packs them for quick reading"
    for key, data in _section(values, ("datasets",)).items():
        if not isinstance(data, dict):
            continue
        backend = data.get("io_backend")
        kind = backend.get("type", "disk") if isinstance(backend, dict) else backend
        if kind not in (None, "disk"):
            message = f"BasicSR's {shown(kind)} storage is not read, only files on disk; {remedy}"
            problems.append(source.problem(("datasets", key, "io_backend"), message))
        for name in ("dataroot_gt", "dataroot_lq"):
            if isinstance(root := data.get(name), str) and root.rstrip("/").endswith(".lmdb"):
                message = f"{root!r} is an LMDB database, which is not read; {remedy}"
                problems.append(source.problem(("datasets", key, name), message))
    return problems


def _metrics(values: dict[str, Any], source: Source) -> list[Problem]:
    """`metrics: {psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: false}}` becomes names and a protocol.

    What is measured twice, under two labels, is named once.
    """
    val = _section(values, ("val",))
    if "metrics" in val and val["metrics"] is None:
        val["metrics"] = ()
    metrics = val.get("metrics")
    if not isinstance(metrics, dict):
        return []
    problems: list[Problem] = []
    names: list[str] = []
    for label, spec in metrics.items():
        keys = ("val", "metrics", label)
        if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
            message = f"expected a section with a `type`, such as calculate_psnr, got {shown(spec)}"
            problems.append(source.problem(keys, message))
            continue
        for name in spec:
            if name not in _METRIC_KEYS:
                message = f"is unknown.{did_you_mean(name, _METRIC_KEYS)} Accepted here: {', '.join(_METRIC_KEYS)}."
                problems.append(source.problem((*keys, name), message))
        border = spec.get("crop_border", 0)
        if not isinstance(border, int) or isinstance(border, bool) or not 0 <= border <= _WIDEST_BORDER:
            message = f"expected a whole number from 0 to {_WIDEST_BORDER}, got {shown(border)}"
            problems.append(source.problem((*keys, "crop_border"), message))
            continue
        names.append(_metric_name(val, spec, border))
    val["metrics"] = tuple(dict.fromkeys(names))
    return problems


def _metric_name(val: dict[str, Any], spec: dict[str, Any], border: int) -> str:
    """Our name of a metric; the first PSNR or SSIM sets the run's protocol, others than that are named by theirs."""
    name: str = spec["type"].removeprefix("calculate_")
    if name == "niqe":  # has no reference, and a colour and border of its own
        return ("niqe" if spec.get("convert_to") == "gray" else "niqe_y") + (f"_crop{border}" if border else "")
    if name not in ("psnr", "ssim"):
        return name
    protocol = "y_float" if spec.get("test_y_channel") else "rgb"
    if "protocol" not in val:
        val.update(protocol=protocol, crop_border=border)
    is_the_runs = (val["protocol"], val.get("crop_border")) == (protocol, border)
    return name if is_the_runs else f"{name}_{protocol}_crop{border}"


def _section(values: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """The mapping at `keys`, or an empty one that belongs to nobody."""
    inner: Any = values
    for key in keys:
        inner = inner.get(key)
        if not isinstance(inner, dict):
            return {}
    return inner


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value
