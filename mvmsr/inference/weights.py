"""Weights files that describe themselves, and the one door through which every other weights file comes in.

Our format is safetensors with one metadata entry, `mvmsr`, a JSON object: `format`, `arch`, `args`, `scale`,
`version`, and whatever the writer adds (`name`, `iterations`, `options_sha256`). Nothing else is needed to run the
network. Files of other tools are read by spandrel. No file is ever unpickled into code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvmsr import __version__
from mvmsr.registry import ARCHS, RegistryError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
BUILTIN_DIR = Path(__file__).parent / "builtin"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_KEY = "mvmsr"
_RESERVED = ("format", "arch", "args", "scale", "version")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class WeightsError(ValueError):
    """A weights file that cannot be found, read or used; the message names the path, the cause and a remedy."""


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says about itself.

    Attributes:
        arch: the registered name of the network, or spandrel's name of the architecture.
        args: arguments of the network's constructor; empty for files of other tools, which keep none.
        parameters: number of trained values, without the running statistics of batch normalisation.
        extra: what the writer added: `name`, `iterations`, `options_sha256`, ...
        source: `mvmsr` for our own files, `spandrel` for files of other tools, `given` where the caller named the
            network.
    """

    path: Path
    arch: str
    scale: int
    parameters: int
    args: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    source: str = "mvmsr"


def describe(arch: str, args: Mapping[str, Any], scale: int, extra: Mapping[str, str] | None = None) -> str:
    """The JSON text that makes a weights file self-describing.

    Raises:
        ValueError: `extra` uses a reserved key, or an argument is not a plain value.
    """
    taken = sorted(set(extra or {}) & set(_RESERVED))
    if taken:
        raise ValueError(f"extra must not use the reserved keys {', '.join(taken)}")
    about = {"format": FORMAT, "arch": arch, "args": dict(args), "scale": int(scale), "version": __version__}
    try:
        return json.dumps({**about, **(extra or {})}, sort_keys=True)
    except TypeError as error:
        raise ValueError(f"args of {arch} must be numbers, texts, lists or mappings, got {dict(args)!r}") from error


def save_weights(
    path: str | Path,
    module_state: Mapping[str, Tensor],
    arch: str,
    args: Mapping[str, Any],
    scale: int,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Writes a self-describing safetensors file, whole or not at all (written aside, synced, renamed).

    Args:
        module_state: the network's `state_dict()`; tensors of any device.
        arch: the registered name that `args` belong to.
        extra: further metadata, texts by texts.

    Raises:
        WeightsError: the name does not end in `.safetensors`.
        ValueError: `extra` or `args` cannot be stored (see `describe`).
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are written as safetensors; end the name in `.safetensors`")
    metadata = {"format": "pt", _KEY: describe(arch, args, scale, extra)}
    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in module_state.items()}
    _write_atomically(path, save(state, metadata=metadata))
    return path


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_info(path: str | Path) -> WeightsInfo:
    """Reads the description of one of our safetensors files; no tensor is read.

    Raises:
        WeightsError: the file is absent, damaged, or not described (a file of another tool: use `load_generator`).
    """
    path = _existing(path)
    info = _info_of_safetensors(path) if path.suffix == ".safetensors" else None
    if info is None:
        raise WeightsError(
            f"{path}: has no description of ours (metadata key {_KEY!r}); it was written by another tool. "
            "Load it with load_generator, which asks spandrel, or convert it: mvmsr export FILE --to safetensors -o NEW"
        )
    return info


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
    path = _existing(path)
    about, state = _read_state(path)
    if arch is not None:
        options = {"type": arch} if isinstance(arch, str) else dict(arch)
        if "type" not in options:
            raise WeightsError(f"{path}: arch must hold `type`, the network's name; got {options!r}")
        name, args, source = options.pop("type"), options, "given"
    elif about is not None:
        name, args, source = about["arch"], about["args"], "mvmsr"
    else:
        return _load_by_spandrel(path, state)
    if name == "spandrel":  # trained on from another tool's file: its tensors, not `args`, tell the network
        module, found = _load_by_spandrel(path, state)
        return module, found if about is None else replace(_described(path, about, found.parameters), arch=found.arch)
    module = _build(path, name, args)
    _fill(path, module, state, name)
    scale = _int_scale(path, module, name)
    if source == "mvmsr" and scale != about["scale"]:
        raise WeightsError(f"{path}: says scale {about['scale']}, but its network {name} has scale {scale}")
    info = WeightsInfo(path, name, scale, _count(state), args, source=source)
    return module.eval(), _described(path, about, info.parameters) if source == "mvmsr" else info


def load_state(path: str | Path, prefer: str = "params_ema") -> dict[str, Tensor]:
    """The tensors of any weights file by name, to start a training from.

    Args:
        prefer: the key to take where a file holds several states, such as `params` and `params_ema`.

    Raises:
        WeightsError: the file is absent, damaged, or holds no state.
    """
    return _read_state(_existing(path), prefer)[1]


def find_weights(path_or_name: str | Path) -> Path:
    """The weights file that a user means: a file, a run directory (its newest weights), or a built-in name.

    Raises:
        WeightsError: there is no such file, run or name; the message lists the built-in names.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.is_dir():
        files = [*path.glob("weights/*.safetensors"), *path.glob("*.safetensors")]
        if not files:
            raise WeightsError(
                f"{path}: no weights/*.safetensors in this directory. "
                "Name a weights file, or a run directory whose training has saved at least once"
            )
        return max(files, key=_age)
    if str(path_or_name) in (names := builtin_names()):
        return BUILTIN_DIR / f"{path_or_name}.safetensors"
    listed = f"Built-in names: {', '.join(names)}." if names else "There are no built-in weights yet."
    raise WeightsError(
        f"{path_or_name}: neither a file, nor a run directory, nor a built-in name.{did_you_mean(str(path), names)} "
        f"{listed} Train a network with `mvmsr train -opt OPTIONS.yml` and name its run directory, or name a .pth or "
        ".safetensors file"
    )


def builtin_names() -> list[str]:
    """Names of the weights that come with the package, sorted."""
    return sorted(file.stem for file in BUILTIN_DIR.glob("*.safetensors"))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. Name a .safetensors or .pth file")
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(f"{path}: {path.suffix or 'no'} suffix; weights files end in {', '.join(SUFFIXES)}")
    return path


def _age(path: Path) -> tuple[int, float, str]:
    """Sorts weights by the iterations they were trained for, then by time: a copied run has new time stamps."""
    try:
        iterations = int(read_info(path).extra.get("iterations", -1))
    except (WeightsError, ValueError):
        iterations = -1
    return iterations, path.stat().st_mtime, path.name


def _info_of_safetensors(path: Path) -> WeightsInfo | None:
    import safetensors

    try:
        # The numpy framework keeps torch out: a description is read in milliseconds.
        with safetensors.safe_open(path, framework="numpy") as file:
            about = _parse(path, (file.metadata() or {}).get(_KEY))
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if about is None:
        return None
    count = sum(_product(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))
    return _described(path, about, count)


def _read_state(path: Path, prefer: str = "params_ema") -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The parsed description (None without one) and the plain state of any weights file."""
    import pickle

    import safetensors
    import torch

    try:
        if path.suffix.lower() == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                about = _parse(path, (file.metadata() or {}).get(_KEY))
                return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: holds more than tensors, or is damaged ({_first_line(error)}). Files that would run code are "
            "not loaded; save the network's state_dict() alone"
        ) from error
    except (safetensors.SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, got {type(content).__name__}")
    about = content.get(_KEY)
    return _parse(path, about if isinstance(about, str) else None), _plain_state(path, content, prefer)


def _plain_state(path: Path, content: dict[str, Any], prefer: str) -> dict[str, Tensor]:
    """Finds the state in BasicSR's and other layouts: under `params_ema`, `params`, `state_dict`, ... or bare."""
    from torch import Tensor

    for key in (prefer, "params_ema", "params", "state_dict", "model_state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    if content and all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no network state; keys are {', '.join(map(str, list(content)[:8]))}")
    return state


def _parse(path: Path, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        about = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path}: its description is not JSON ({error}). Save the weights again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        got = about.get("format") if isinstance(about, dict) else about
        raise WeightsError(f"{path}: weights format {got!r}; this version ({__version__}) reads {FORMAT}. Update mvmsr")
    kinds = {"arch": str, "args": dict, "scale": int, "version": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]
    if wrong:
        raise WeightsError(f"{path}: its description lacks a proper {', '.join(wrong)}. Save the weights again")
    return about


def _described(path: Path, about: Mapping[str, Any], parameters: int) -> WeightsInfo:
    extra = {key: str(value) for key, value in about.items() if key not in _RESERVED}
    return WeightsInfo(path, about["arch"], about["scale"], parameters, about["args"], about["version"], extra)


def _build(path: Path, name: str, args: Mapping[str, Any]) -> nn.Module:
    try:
        return ARCHS.get(name)(**args)
    except RegistryError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: network {name} cannot be built with {dict(args)}: {error}") from error


def _fill(path: Path, module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    reshaped = [
        f"{key}: file {tuple(state[key].shape)}, network {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    faults = [
        f"{title} {len(found)} ({'; '.join(found[:3])}{'; …' if len(found) > 3 else ''})"
        for title, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if found
    ]
    if faults:
        raise WeightsError(
            f"{path}: its tensors do not fit network {name}: {', '.join(faults)}. "
            "Check the network's arguments against those it was trained with"
        )
    module.load_state_dict(dict(state))


def _load_by_spandrel(path: Path, state: dict[str, Tensor]) -> tuple[nn.Module, WeightsInfo]:
    from mvmsr.inference.foreign import recognise

    module, arch = recognise(path, state)
    return module, WeightsInfo(path, arch, module.scale, _count(state), source="spandrel")


def _int_scale(path: Path, module: nn.Module, name: str) -> int:
    scale = getattr(module, "scale", getattr(module, "upscale", None))
    if not isinstance(scale, int):
        raise WeightsError(f"{path}: network {name} has no integer `scale`; it is not a super-resolution network")
    return scale


def _count(state: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for name, value in state.items() if not name.endswith(_STATISTICS))


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path}: cannot be read, it is damaged or cut short ({_first_line(error)}). Copy it again")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
