"""What a benchmark run is asked to do, from an options file, the command line, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mvmsr.benchmark.basicsr_test_options import equivalent_commands
from mvmsr.config.errors import OptionsError
from mvmsr.config.kinds import other_command
from mvmsr.config.yaml_source import read_yaml, shown
from mvmsr.registry import did_you_mean


class PlanError(ValueError):
    """An options file or a command line that cannot be carried out; the message says where and what is accepted."""


@dataclass(frozen=True)
class Plan:
    """One benchmark.

    Attributes:
        methods: see `methods.parse_method`.
        sets: names below `data_root`, or folders.
        metrics: see `metrics.metric_names`.
        protocol: see `metrics.make_protocol`.
        crop_border: another border than the protocol's.
        scale: magnification.
        data_root: folder of the sets; else $MVMSR_DATA_ROOT, else `datasets`.
        lq: `make` the low-quality pictures, take the `file`s of the set, or those of a folder.
        out: folder for results.json, results.csv and results.md.
        save_images: also write every restored picture below `out`/images; None: the command does with `out`.
        device, precision: of the models and of LPIPS.
        weights_dir: where metrics look for pretrained files first.
        allow_missing: a metric without its weights is no failure.
        workers: threads that read and score pictures, see `measure.pick_workers`; 0 (`auto`) chooses.
        restart: measure everything again, whatever `out` holds.
    """

    methods: tuple[str, ...] = ("bicubic",)
    sets: tuple[str, ...] = ("Set5",)
    metrics: tuple[str, ...] = ("psnr", "ssim")
    protocol: str = "y"
    crop_border: int | None = None
    scale: int = 4
    data_root: str | None = None
    lq: str = "make"
    out: str | None = None
    save_images: bool | None = None
    device: str = "auto"
    precision: str = "auto"
    weights_dir: str | None = None
    allow_missing: bool = False
    workers: int = 0
    restart: bool = False

    def __post_init__(self) -> None:
        for name in ("methods", "sets", "metrics"):
            values = getattr(self, name)
            if not values:
                raise PlanError(f"{name} is empty; name at least one")
            if not all(value.strip() for value in values):
                raise PlanError(f"{name} holds an empty name; is a variable of the shell not set?")
            if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
                raise PlanError(f"{name} names {twice[0]!r} twice")
        if self.out == "":
            raise PlanError("out is an empty name; is a variable of the shell not set?")
        if self.save_images and not self.out:
            raise PlanError("save_images needs out, the folder to write to")
        if self.lq not in ("make", "file") and len(self.sets) > 1:
            raise PlanError(f"lq is {self.lq!r}, the low-quality images of one set; name one set, or use make or file")
        if self.workers < 0:
            raise PlanError(f"workers is {self.workers}; give a number of threads, or auto")


_LISTS = ("methods", "sets", "metrics")
_TYPES: dict[str, type] = {
    "crop_border": int,
    "scale": int,
    "save_images": bool,
    "allow_missing": bool,
    "workers": int,
    "restart": bool,
}


def load_plan(path: str | Path) -> Plan:
    """The plan in a YAML file.

    Raises:
        PlanError: the file cannot be read, or holds an unknown key or a value of the wrong type.
    """
    try:
        values, _ = read_yaml(Path(path))
    except OptionsError as error:
        raise PlanError(str(error)) from error
    if wrong := other_command(values, "test", Path(path)):
        raise PlanError(f"{path}: {wrong}")
    if commands := "\n".join(f"  {command}" for command in equivalent_commands(values)):
        raise PlanError(f"{path}: these are BasicSR's options; for a file of its tests use\n{commands}")
    try:
        return make_plan(values)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def make_plan(values: Mapping[str, Any], base: Plan | None = None) -> Plan:
    """`base` (the defaults) with some values replaced, each checked.

    Raises:
        PlanError: an unknown key or a value of the wrong type.
    """
    known = [field.name for field in fields(Plan)]
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise PlanError(f"unknown key {key!r}.{did_you_mean(str(key), known)} Known: {', '.join(known)}.")
        if value is not None:
            checked[key] = _checked(key, value)
    return replace(base or Plan(), **checked)


def _checked(key: str, value: Any) -> Any:
    if key in _LISTS:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise PlanError(f"{key}: expected a list of names, got {shown(value)}")
        return tuple(items)
    wanted = _TYPES.get(key, str)
    if key == "workers" and isinstance(value, str):
        return _workers(value)
    if key == "precision" and type(value) is int:
        return str(value)  # `precision: 32` reads as a number in YAML
    if type(value) is not wanted:
        raise PlanError(f"{key}: expected {wanted.__name__}, got {shown(value)}")
    return value


def _workers(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise PlanError(f"workers: expected a number of threads or auto, got {text!r}")
    return int(text)
