"""Networks from weights files: ours by their description, those of other tools by spandrel.

No file is ever unpickled into code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvmsr.config.yaml_source import shown
from mvmsr.inference.model_card import is_default
from mvmsr.inference.state_reading import read_state
from mvmsr.inference.weights_file import (
    STATISTICS,
    SUFFIXES,
    WeightsError,
    WeightsInfo,
    describe,
    described,
    existing,
    first_line,
    is_file,
    read_info,
    save_weights,
)
from mvmsr.registry import ARCHS, RegistryError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "BUILTIN_DIR",
    "WeightsError",
    "WeightsInfo",
    "builtin_names",
    "default_model",
    "describe",
    "find_weights",
    "load_generator",
    "load_state",
    "read_info",
    "save_weights",
]

RUNS_FOLDER = Path("experiments")
"""Where a run is sought by its name alone."""
BUILTIN_DIR = Path(__file__).parents[1] / "models"
"""Every `NAME.safetensors` in it is a built-in model, called NAME."""


_LONGEST_NAME = 256  # of a file, on any system
_SPARE_VALUES = 2**24
"""Values that a network may compute beside its parameters while it is built."""

NO_BUILTIN = "This installation has no built-in models."


def load_generator(path: str | Path, arch: str | Mapping[str, Any] | None = None) -> tuple[nn.Module, WeightsInfo]:
    """Builds the network of a weights file and loads it, on the CPU, in eval mode.

    Args:
        path: one of our files, or a `.pth` / `.safetensors` of another tool that spandrel knows.
        arch: for plain state files that nobody recognises: the registered name, or a mapping with `type` and the
            constructor's arguments, as `network_g` of an options file.

    Returns:
        the network, with an int attribute `scale`, and the file's description.

    Raises:
        WeightsError: the file is absent or damaged, its network unknown, or its tensors do not fit the network.
    """
    path = existing(path)
    about, state = read_state(path)
    if arch is not None:
        name, args = _named(path, arch)
        module = _by_name(path, name, args, state)
        return module, WeightsInfo(path, name, module.scale, _count(state), args, source="given")  # type: ignore[arg-type]
    if about is None:
        return _by_spandrel(path, state)
    if about["arch"] == "spandrel":  # trained on from another tool's file: its tensors, not `args`, tell the network
        module, found = _by_spandrel(path, state)
        # Its arguments name the file that it began from, which is no part of what it is now.
        return module, replace(described(path, about, found.parameters), arch=found.arch, args={}, source=found.source)
    _refuse_paths(path, about["args"])
    module = _by_name(path, about["arch"], about["args"], state, about["scale"])
    if module.scale != about["scale"]:
        raise WeightsError(
            f"{path}: says scale {about['scale']}, but its network {about['arch']} has scale {module.scale}"
        )
    return module, described(path, about, _count(state))


def load_state(path: str | Path, prefer: str = "params_ema") -> dict[str, Tensor]:
    """The tensors of any weights file by name, to start a training from.

    Args:
        prefer: the key to take where a file holds several states, such as `params` and `params_ema` (see
            `read_state`).

    Raises:
        NoSuchStateError: the file has states under keys, and none is `prefer`'s.
        WeightsError: the file is absent, damaged, or holds no state.
    """
    return read_state(existing(path), prefer)[1]


def find_weights(path_or_name: str | Path, runs_folder: Path | None = None) -> Path:
    """The weights file that a user means: a built-in name, a file, or a run directory (its newest weights).

    A run's name alone is sought in `runs_folder`, else in `experiments/`.

    A folder of a built-in's name, such as one for its results, does not hide it; `./NAME` means the folder.

    Raises:
        WeightsError: there is no such file, run or name; the message lists the built-in names.
    """
    if str(path_or_name) in (names := builtin_names()):
        return BUILTIN_DIR / f"{path_or_name}.safetensors"
    path = in_runs_folder(Path(path_or_name), runs_folder)
    if is_file(path):
        return path
    if len(path.name) < _LONGEST_NAME and path.is_dir():
        files = [*path.glob("weights/*.safetensors"), *path.glob("*.safetensors")]
        if not files:
            raise WeightsError(
                f"{path}: no weights/*.safetensors in this directory. "
                "Name a weights file, or a run directory whose training has saved at least once"
            )
        return max(files, key=_age)
    listed = f"Built-in names: {', '.join(names)}." if names else NO_BUILTIN
    raise WeightsError(
        f"{str(path_or_name)[:_LONGEST_NAME]}: neither a file, nor a run directory, nor a built-in name."
        f"{did_you_mean(str(path), names)} {listed} "
        "Train a network with `mvmsr train -opt OPTIONS.yml` and name its run directory, or name a .pth or "
        ".safetensors file"
    )


def in_runs_folder(path: Path, runs_folder: Path | None = None) -> Path:
    """The run of that name in `runs_folder`, else in `experiments/`, where nothing lies at the path itself."""
    folders = (RUNS_FOLDER,) if runs_folder is None else (runs_folder, RUNS_FOLDER)
    try:
        return path if path.exists() else next((f / path for f in folders if (f / path).is_dir()), path)
    except (OSError, ValueError):  # no system has files of such names
        return path


def builtin_names() -> list[str]:
    """Names of the weights that come with the package, sorted."""
    return sorted(file.stem for file in BUILTIN_DIR.glob("*.safetensors"))


def default_model() -> str:
    """The built-in name that is used where none is given: the only one, or the one whose card says `default: yes`.

    Raises:
        WeightsError: there are none, or several and not exactly one of them is marked.
    """
    names = builtin_names()
    if len(names) <= 1:
        if names:
            return names[0]
        raise WeightsError(
            f"no --model was named. {NO_BUILTIN} Train one (mvmsr train -opt "
            "options/train/mvm_srresnet_x4_cpu.yml) and name its run directory, name a .pth or .safetensors file, "
            "or use --model bicubic"
        )
    marked = [name for name in names if is_default(read_info(BUILTIN_DIR / f"{name}.safetensors"))]
    if len(marked) == 1:
        return marked[0]
    raise WeightsError(
        f"no --model was named, and {len(marked)} of the built-in ones are the default: {', '.join(names)}"
    )


def _age(path: Path) -> tuple[int, float, str]:
    """Sorts weights by the iterations they were trained for, then by time: a copied run has new time stamps."""
    try:
        iterations = int(read_info(path).extra.get("iterations", -1))
    except (WeightsError, ValueError):
        iterations = -1
    return iterations, path.stat().st_mtime, path.name


def _named(path: Path, arch: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    args = {"type": arch} if isinstance(arch, str) else dict(arch)
    if "type" not in args:
        raise WeightsError(f"{path}: arch must hold `type`, the network's name; got {args!r}")
    return args.pop("type"), args


def _refuse_paths(path: Path, value: Any) -> None:
    """A description that names files would have other files read than the one that the user named."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _refuse_paths(path, part)
    elif isinstance(value, str) and ("/" in value or "\\" in value or value.lower().endswith(SUFFIXES)):
        raise WeightsError(f"{path}: its description names a file, {shown(value)}; only plain arguments are taken")


def _by_name(
    path: Path, name: str, args: Mapping[str, Any], state: Mapping[str, Tensor], stated: int | None = None
) -> nn.Module:
    """The network of that name with the state; `stated` is its scale where it has none itself."""
    from mvmsr.archs.bounded_building import bounded_by

    try:
        constructor = ARCHS.get(name)
        with bounded_by(state, _SPARE_VALUES):
            module = constructor(**args)
    except RegistryError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # constructors check little of what they are given
        reason = first_line(error)
        raise WeightsError(f"{path}: network {name} cannot be built with {shown(dict(args), 300)}: {reason}") from error
    _fill(path, module, state, name)
    # BasicSR's networks call it `upscale`; some, EDSR and RCAN among them, take it as an argument and forget it.
    told = stated if stated is not None else _scale_among(constructor, args)
    scale = getattr(module, "scale", getattr(module, "upscale", told))
    if not isinstance(scale, int) or isinstance(scale, bool) or scale < 1:
        raise WeightsError(f"{path}: network {name} has no integer `scale`; it is not a super-resolution network")
    module.scale = scale  # type: ignore[assignment]
    return module.eval()


def _scale_among(constructor: Callable[..., Any], args: Mapping[str, Any]) -> Any:
    """The scale among a constructor's arguments, given or by default; None where there is none."""
    parameters = inspect.signature(constructor).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    return next((value for name in ("scale", "upscale") if (value := {**defaults, **args}.get(name))), None)


def _fill(path: Path, module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [
        f"{key}: file {tuple(state[key].shape)}, network {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    faults = [
        f"{title} {len(found)} ({'; '.join(fault[:100] for fault in found[:3])}{'; …' if len(found) > 3 else ''})"
        for title, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if found
    ]
    if faults:
        raise WeightsError(
            f"{path}: its tensors do not fit network {name}: {', '.join(faults)}. "
            "Check the network's arguments against those it was trained with"
        )
    module.load_state_dict(dict(state))


def _by_spandrel(path: Path, state: dict[str, Tensor]) -> tuple[nn.Module, WeightsInfo]:
    from mvmsr.inference.foreign import recognise

    module, arch = recognise(path, state)
    return module, WeightsInfo(path, arch, module.scale, _count(state), source="spandrel")


def _count(state: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for name, value in state.items() if not name.endswith(STATISTICS))
