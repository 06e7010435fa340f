"""The plain state of any weights file: names and tensors, whatever layout they lie in.

Pickled files are read by torch's unpickler for tensors alone, which calls nothing that a file names. What is left of a
pickle's freedom, tensors that are larger than the file, is refused here.
"""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvmsr.inference.weights_file import KEY, WeightsError, damaged, parse
from mvmsr.registry import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_USUAL = ("params_ema", "params", "state_dict", "model_state_dict", "model")
"""Keys under which BasicSR and other tools keep a state; where none is asked for, the first in a file is taken."""
_FEW_BYTES = 2**10
_SWELLING, _SPARE_BYTES = 4, 2**24
"""Files may hold this much more than their length: a few packed or shared tensors, no bombs."""


class NoSuchStateError(WeightsError):
    """A file of several states has none of the name that was asked for."""


def read_state(path: Path, prefer: str | None = None) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The parsed description (None without one) and the plain state of any weights file.

    Args:
        prefer: the key of the state to take. Where it is a usual one (`params_ema`, `params`, `state_dict`,
            `model_state_dict`, `model`) that the file lacks, another usual one is taken, and the log tells it. Files
            with one state and no keys (all safetensors) need none.

    Raises:
        NoSuchStateError: the file has states under keys, and none is `prefer`'s.
        WeightsError: the file is damaged, holds more than tensors or more than its length, or holds no state.
    """
    if path.suffix.lower() == ".safetensors":
        about, state = _read_safetensors(path)
        if not state:
            raise WeightsError(f"{path}: holds no tensors")
        return about, state
    content = _read_pickle(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a dictionary of tensors, got {type(content).__name__}")
    text = content.get(KEY)
    about = parse(path, text if isinstance(text, str) else None)
    state = _plain_state(path, content, prefer)
    _refuse_inflated(path, state)
    return about, state


def _read_safetensors(path: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = parse(path, (file.metadata() or {}).get(KEY))
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except WeightsError:
        raise
    except Exception as error:  # a header may be wrong in more ways than the library's own error covers
        raise damaged(path, error) from error


def _read_pickle(path: Path) -> Any:
    import pickle

    import torch

    try:
        if zipfile.is_zipfile(path):
            _refuse_packed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        # Of what torch says, the rest is how to run the code all the same.
        found = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"holds more than tensors, {found[1][:100]!r}" if found else "holds more than tensors, or is damaged"
        raise WeightsError(
            f"{path}: {reason}. Files that would run code are not loaded; save the network's state_dict() alone"
        ) from error
    except Exception as error:  # the unpickler raises whatever a damaged stream makes it stumble over
        raise damaged(path, error) from error


def _refuse_packed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if any(member.filename.endswith("/constants.pkl") for member in members):  # by which torch knows them, too
        raise WeightsError(
            f"{path}: is a TorchScript program, which would run code and is not loaded; name the weights file that it "
            "was made from (`mvmsr export` writes .pth, .safetensors and .onnx, too)"
        )
    for member in members:
        # torch reads these few bytes as text, several times over, however many they are.
        if member.filename.rpartition("/")[2] in ("version", "byteorder") and member.file_size > _FEW_BYTES:
            raise WeightsError(f"{path}: its {member.filename} has {member.file_size:,} bytes; it is damaged")
    if unpacked > (limit := _limit(path)):
        raise _too_much(path, unpacked, limit)


def _refuse_inflated(path: Path, state: dict[str, Tensor]) -> None:
    """Pickled tensors may overlap themselves: a gigabyte by name that is one number in the file."""
    import torch

    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_nested:
            raise WeightsError(f"{path}: {name[:100]} is no plain tensor. Save the network's state_dict() alone")
    held = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if held > (limit := _limit(path)):
        raise _too_much(path, held, limit)


def _limit(path: Path) -> int:
    return _SWELLING * path.stat().st_size + _SPARE_BYTES


def _too_much(path: Path, found: int, limit: int) -> WeightsError:
    return WeightsError(
        f"{path}: its tensors would take {found:,} bytes, more than the {limit:,} that a file of its length can hold; "
        "it is damaged or made to fill the memory. Copy it again, or save the state_dict() again"
    )


def _plain_state(path: Path, content: dict[Any, Any], prefer: str | None) -> dict[str, Tensor]:
    """Finds the state in BasicSR's and other layouts: under `params_ema`, `params`, `state_dict`, ... or bare."""
    from torch import Tensor

    held = [key for key, value in content.items() if isinstance(key, str) and _holds_tensors(value)]
    usual = [key for key in _USUAL if key in held]
    if prefer in held:
        content = content[prefer]
    elif {"archs", "networks"} <= content.keys():
        raise WeightsError(
            f"{path}: is a checkpoint, to continue its run from; for weights, name the run's folder, or a file of its "
            "`weights` folder"
        )
    elif prefer is not None and held and not (prefer in _USUAL and (usual or _holds_tensors(content))):
        listed = ", ".join(key[:50] for key in held[:8])
        raise NoSuchStateError(f"{path}: has no state {prefer!r}.{did_you_mean(prefer, held)} It holds {listed}")
    elif usual:
        content = content[usual[0]]
        if prefer is not None:
            log.info("%s: has no state %r; its %r is taken", path, prefer, usual[0])
    state = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(str(key)[:50] for key in list(content)[:8])
        raise WeightsError(f"{path}: holds no network state; keys are {keys}")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _holds_tensors(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, dict) and any(isinstance(inner, Tensor) for inner in value.values())
