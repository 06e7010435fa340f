"""Our weights file, which describes itself.

It is safetensors with one metadata entry, `mvmsr`, a JSON object: `format`, `arch`, `args`, `scale`, `version`, and
whatever the writer adds (`name`, `iterations`, `options_sha256`). Nothing else is needed to run the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvmsr import __version__
from mvmsr.atomic import write_whole

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
KEY = "mvmsr"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_LONGEST_ARCH, _LONGEST_LINE = 200, 500
_RESERVED = ("format", "arch", "args", "scale", "version")


class WeightsError(ValueError):
    """A weights file that cannot be found, read or used; the message names the path, the cause and a remedy."""


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says about itself.

    Attributes:
        arch: the registered name of the network, or spandrel's name of the architecture.
        args: arguments of the network's constructor; empty where spandrel recognised the network.
        parameters: number of trained values, without the running statistics of batch normalisation.
        extra: what the writer added: `name`, `iterations`, `options_sha256`, ...
        source: `mvmsr` for our own networks, `spandrel` for those that it recognised (trained on or not), `given` where
            the caller named the network, `onnx` for ONNX files (their parameters are 0 where they cannot be counted).
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
    half: bool = False,
) -> Path:
    """Writes a self-describing safetensors file, whole or not at all (written aside, synced, renamed).

    Args:
        module_state: the network's `state_dict()`; tensors of any device.
        arch: the registered name that `args` belong to.
        extra: further metadata, texts by texts.
        half: store floating-point tensors as float16, in half the room; they are read back into float32.

    Raises:
        WeightsError: the name does not end in `.safetensors`.
        ValueError: `extra` or `args` cannot be stored (see `describe`), or a tensor leaves the range of float16.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are written as safetensors; end the name in `.safetensors`")
    metadata = {"format": "pt", KEY: describe(arch, args, scale, extra)}
    # Cloned, because safetensors refuses tensors that share memory, as tied weights do.
    state = {name: value.detach().cpu().contiguous().clone() for name, value in module_state.items()}
    if half:
        state = {name: _halved(name, value) for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(state, metadata=metadata))
    return path


def _halved(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    halved = value.half()
    if not bool(halved.isfinite().all()):
        raise ValueError(f"{name} holds values up to {float(value.abs().max()):g}, beyond float16; store it whole")
    return halved


def read_info(path: str | Path) -> WeightsInfo:
    """Reads the description of one of our safetensors files; no tensor is read.

    Raises:
        WeightsError: the file is absent, damaged, or not described (a file of another tool: use `load_generator`).
    """
    path = existing(path)
    info = _info_of_safetensors(path) if path.suffix == ".safetensors" else None
    if info is None:
        raise WeightsError(
            f"{path}: has no mvmsr description (metadata key {KEY!r}); it was written by another tool. "
            "Load it with load_generator, which asks spandrel, or convert it: mvmsr export FILE --to safetensors -o NEW"
        )
    return info


def existing(path: str | Path) -> Path:
    """`path`, found to be a file with the suffix of a weights file.

    Raises:
        WeightsError: it is not.
    """
    path = Path(path)
    if not is_file(path):
        raise WeightsError(f"{path}: no such file. Name a .safetensors or .pth file")
    if path.suffix.lower() == ".onnx":
        raise WeightsError(f"{path}: an ONNX file can be run (mvmsr upscale, mvmsr test), not taken apart as weights")
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(f"{path}: {path.suffix or 'no'} suffix; weights files end in {', '.join(SUFFIXES)}")
    return path


def is_file(path: Path) -> bool:
    """Whether it is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _info_of_safetensors(path: Path) -> WeightsInfo | None:
    import safetensors

    try:
        # The numpy framework keeps torch out: a description is read in milliseconds.
        with safetensors.safe_open(path, framework="numpy") as file:
            about = parse(path, (file.metadata() or {}).get(KEY))
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except WeightsError:
        raise
    except Exception as error:  # a header may be wrong in more ways than the library's own error covers
        raise damaged(path, error) from error
    if about is None:
        return None
    count = sum(_product(shape) for name, shape in shapes.items() if not name.endswith(STATISTICS))
    return described(path, about, count)


def parse(path: Path, text: str | None) -> dict[str, Any] | None:
    """The description in a file's metadata; None where there is none.

    Raises:
        WeightsError: it is damaged or of another format.
    """
    if text is None:
        return None
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also of a number with thousands of digits
        raise WeightsError(
            f"{path}: its description is not JSON ({first_line(error)}). Save the weights again"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        got = about.get("format") if isinstance(about, dict) else about
        raise WeightsError(
            f"{path}: weights format {repr(got)[:100]}; this version ({__version__}) reads {FORMAT}. Update mvmsr"
        )
    kinds = {"arch": str, "args": dict, "scale": int, "version": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(about.get(key), kind)]
    if not wrong and len(about["arch"]) > _LONGEST_ARCH:
        wrong = ["arch"]
    if wrong:
        raise WeightsError(f"{path}: its description lacks a proper {', '.join(wrong)}. Save the weights again")
    return about


def described(path: Path, about: Mapping[str, Any], parameters: int) -> WeightsInfo:
    """What a description says, with the number of parameters counted in the file."""
    extra = {key: str(value) for key, value in about.items() if key not in _RESERVED}
    return WeightsInfo(path, about["arch"], about["scale"], parameters, about["args"], about["version"], extra)


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def damaged(path: Path, error: Exception) -> WeightsError:
    """The error for a file that cannot be read."""
    return WeightsError(f"{path}: cannot be read, it is damaged or cut short ({first_line(error)}). Copy it again")


def last_line(error: Exception) -> str:
    """The last line of an error's message, where tracers and runtimes say what is wrong, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def first_line(error: Exception) -> str:
    """The first line of an error's message, cut where it is long, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_LONGEST_LINE]
