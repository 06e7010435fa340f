"""BasicSR 1.4 options files run unchanged: its keys are translated, or listed once as ignored.

Covers SRModel, SRGANModel and ESRGANModel with PairedImageDataset.
"""

from __future__ import annotations

import logging
from typing import Any

from mvmsr.config.yaml_source import Source

log = logging.getLogger(__name__)

MODEL_TYPES = ("SRModel", "SRGANModel", "ESRGANModel")

# Keys whose work we do by other means: no worker processes, no LMDB, one process per device started by its launcher.
_IGNORED = {
    (): ("num_gpu", "dist_params", "find_unused_parameters", "auto_resume", "is_train", "dist", "rank", "world_size"),
    ("datasets", "train"): (
        *("io_backend", "use_shuffle", "num_worker_per_gpu", "prefetch_mode", "num_prefetch_queue", "pin_memory"),
        *("persistent_workers", "phase", "bgr2rgb"),
    ),
    ("path",): ("strict_load_d", "param_key_d", "ignore_resume_networks"),
    ("val",): ("suffix", "pbar"),
    ("logger",): ("wandb",),
}
_VAL_IGNORED = ("io_backend", "phase", "scale")


def translate(values: dict[str, Any], source: Source) -> dict[str, Any]:
    """A copy of `values` in our schema; says once in the log which BasicSR keys were left out.

    Raises:
        OptionsError: a key asks for something of BasicSR's that we do not do.
    """
    values = _copy(values)
    dropped: list[str] = []
    model_type = values.pop("model_type", None)
    if model_type is not None and model_type not in MODEL_TYPES:
        raise _error(source, ("model_type",), f"{model_type!r} is not supported; use one of {', '.join(MODEL_TYPES)}")
    for keys, names in _IGNORED.items():
        section = _section(values, keys)
        dropped += [".".join((*keys, name)) for name in names if section.pop(name, None) is not None]
    for key, val_set in _section(values, ("datasets",)).items():
        if key != "train" and isinstance(val_set, dict):
            dropped += [f"datasets.{key}.{name}" for name in _VAL_IGNORED if val_set.pop(name, None) is not None]
    _resume_state(values, source)
    _metrics(values, source)
    if model_type == "ESRGANModel" and isinstance(gan := _section(values, ("train",)).get("gan_opt"), dict):
        # BasicSR's ESRGANModel means the relativistic average GAN, and halves its two terms, whatever `gan_type` says.
        if gan.get("gan_type", "vanilla") != "vanilla":
            raise _error(source, ("train", "gan_opt", "gan_type"), "ESRGANModel is relativistic with gan_type: vanilla")
        gan.update(gan_type="relativistic", relativistic_reduction="mean")
    if dropped:
        log.warning("Options of BasicSR that have no meaning here were ignored: %s", ", ".join(dropped))
    return values


def _resume_state(values: dict[str, Any], source: Source) -> None:
    if _section(values, ("path",)).pop("resume_state", None) is not None:
        message = "BasicSR's .state files cannot be continued; begin with path.pretrain_network_g, or use --auto-resume"
        raise _error(source, ("path", "resume_state"), message)


def _metrics(values: dict[str, Any], source: Source) -> None:
    """`metrics: {psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: false}}` becomes names and a protocol."""
    val = _section(values, ("val",))
    metrics = val.get("metrics")
    if not isinstance(metrics, dict):
        return
    protocols, borders, names = set(), set(), []
    for label, spec in metrics.items():
        if not isinstance(spec, dict) or "type" not in spec:
            raise _error(source, ("val", "metrics", label), "expected a section with a `type`, such as calculate_psnr")
        unknown = set(spec) - {
            "type",
            "crop_border",
            "test_y_channel",
            "better",
            "input_order",
            "convert_to",
            "num_thread",
        }
        if unknown:
            raise _error(source, ("val", "metrics", label, min(unknown)), "is unknown for a metric")
        names.append(str(spec["type"]).removeprefix("calculate_"))
        protocols.add("y_float" if spec.get("test_y_channel", spec.get("convert_to") == "y") else "rgb")
        borders.add(spec.get("crop_border", 0))
    if len(protocols) > 1 or len(borders) > 1:
        raise _error(source, ("val", "metrics"), "all metrics must share test_y_channel and crop_border")
    val["metrics"] = tuple(names)
    if protocols:
        val.update(protocol=protocols.pop(), crop_border=borders.pop())


def _section(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    for key in keys:
        values = values.get(key) or {}
        if not isinstance(values, dict):
            return {}
    return values


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value


def _error(source: Source, keys: tuple[str, ...], message: str) -> Exception:
    from mvmsr.config.errors import OptionsError

    return OptionsError([source.problem(keys, message)])
