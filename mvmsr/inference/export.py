"""Weights in the formats of other tools, each checked against the network it was made of."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvmsr.archs.padded import Padded, padded, size_multiple
from mvmsr.inference.failures import network_failures
from mvmsr.inference.foreign import ForeignNetwork, unwrapped
from mvmsr.inference.weights import (
    WeightsError,
    WeightsInfo,
    describe,
    load_generator,
    save_weights,
)
from mvmsr.inference.weights_file import last_line

FORMATS = {"pth": ".pth", "safetensors": ".safetensors", "torchscript": ".pt", "onnx": ".onnx"}
_TRACED_SIZE = (24, 32)
_OPSET = 18
_TOLERANCE, _HALF_STEP = 1e-4, 0.5 / 255
"""The largest difference allowed: of weights as they are, and where they are halved half an 8-bit step."""
_CHECKED_SIZES = ((24, 32), (17, 21))


def export(module: nn.Module, info: WeightsInfo, to: str, path: Path, half: bool = False) -> float:
    """Writes a network in another format, reads it back and compares the two on random pictures of two sizes.

    - `pth`: BasicSR's layout, `{"params": state, "params_ema": state}`; our description rides along, which
      BasicSR ignores.
    - `safetensors`: our own self-describing file.
    - `torchscript`: traced, for any size of picture.
    - `onnx`: opset 18, with free batch, height and width.

    Networks of windows (SwinIR, ...) take one picture at a time as `torchscript` and `onnx`.

    Args:
        module: generator, (N, 3, h, w) -> (N, 3, h*scale, w*scale).
        half: store the weights as float16 (safetensors only).

    Returns:
        the largest difference found.

    Raises:
        WeightsError: the format is unknown, its suffix wrong, its package missing, or the file gives other outputs;
            `path` is then left as it was.
    """
    if to not in FORMATS:
        raise WeightsError(f"{path}: unknown format {to!r}; use one of {', '.join(FORMATS)}")
    if half and to != "safetensors":
        raise WeightsError(f"{path}: only safetensors are stored as float16, not {to}")
    if path.suffix != FORMATS[to]:
        raise WeightsError(f"{path}: files of format {to} end in {FORMATS[to]}")
    module = padded(copy.deepcopy(module).cpu().float().eval(), info.scale)
    writers: dict[str, Callable[[nn.Module, WeightsInfo, Path], Callable[[Tensor], Tensor]]] = {
        "pth": _to_pth,
        "safetensors": partial(_to_safetensors, half=half),
        "torchscript": _to_torchscript,
        "onnx": _to_onnx,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        aside = Path(folder) / path.name
        try:
            with network_failures("it fails"):
                difference = _largest_difference(module, writers[to](module, info, aside))
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: {info.arch} cannot be written as {to}, or does not run as such at another image size "
                f"({last_line(error)}); use --to safetensors or pth"
            ) from error
        tolerance = _HALF_STEP if half else _TOLERANCE
        if not difference <= tolerance:
            raise WeightsError(
                f"{path}: the exported network differs from its source by {difference:.3g}, more than {tolerance:g}; "
                f"it was deleted. {info.arch} does something that {to} cannot express"
            )
        aside.replace(path)
    return difference


def _to_pth(module: nn.Module, info: WeightsInfo, path: Path) -> Callable[[Tensor], Tensor]:
    state = _state(module)
    # BasicSR looks under `params`, Real-ESRGAN under `params_ema` first; the tensors are stored once.
    content: dict[str, object] = {"params": state, "params_ema": state}
    if info.source != "spandrel" or info.version:
        content["mvmsr"] = describe(*_recipe(info), info.scale, dict(info.extra))
    torch.save(content, path)
    return padded(load_generator(path)[0], info.scale)


def _to_safetensors(module: nn.Module, info: WeightsInfo, path: Path, half: bool = False) -> Callable[[Tensor], Tensor]:
    save_weights(path, _state(module), *_recipe(info), info.scale, dict(info.extra), half)
    return padded(load_generator(path)[0], info.scale)


def _recipe(info: WeightsInfo) -> tuple[str, dict[str, Any]]:
    """Name and arguments for a description; `spandrel` where the tensors tell which network it is."""
    return ("spandrel", {}) if info.source == "spandrel" else (info.arch, dict(info.args))


def _to_torchscript(module: nn.Module, info: WeightsInfo, path: Path) -> Callable[[Tensor], Tensor]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each branch on a size warns; the check at another size decides instead
        traced = torch.jit.trace(_runnable(module), torch.rand(1, 3, *_TRACED_SIZE), check_trace=False)
        torch.jit.save(traced, str(path))
        return torch.jit.load(str(path))


def _to_onnx(module: nn.Module, info: WeightsInfo, path: Path) -> Callable[[Tensor], Tensor]:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise WeightsError(f"{path.name}: ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}")
    import onnxruntime

    runnable, free = _runnable(module), torch.export.Dim.DYNAMIC
    # Networks of windows divide a count of windows by that of a picture, which fixes how many pictures there are.
    pictures, sizes = (1, {2: free, 3: free}) if isinstance(runnable, Padded) else (2, {0: free, 2: free, 3: free})
    torch.onnx.export(
        runnable,
        (torch.rand(pictures, 3, *_TRACED_SIZE),),
        str(path),
        input_names=["lq"],
        output_names=["sr"],
        dynamic_shapes=(sizes,),
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # what fails is told once, by the exception
    session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])

    def run(lq: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0])
        except Exception as error:  # its errors share no other base class
            raise RuntimeError(str(error)) from error

    return run


def _largest_difference(source: nn.Module, exported: Callable[[Tensor], Tensor]) -> float:
    noise = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    with torch.no_grad():
        for size in _CHECKED_SIZES:
            lq = torch.rand(1, 3, *size, generator=noise)
            try:
                expected = source(lq)
            except (RuntimeError, ValueError, AssertionError):
                if not found:
                    raise
                continue  # not a size for this network, whatever it is written as
            # Foreign networks clamp; what they are exported as does not.
            found.append((expected.clamp(0, 1) - exported(lq).clamp(0, 1)).abs().max())
    return float(torch.stack(found).max())  # NaN where any is


def _runnable(module: nn.Module) -> nn.Module:
    """What is traced: the padding around a network belongs to it, the checks around others' do not.

    Others pad inside where their sizes ask for it; the tracer settles that branch, so the sizes that it sees never do.
    """
    if not isinstance(module, ForeignNetwork):
        return module
    multiple = math.lcm(module.multiple, size_multiple(module.model))
    return module.model if multiple == 1 else Padded(module.model, module.scale, multiple).eval()


def _state(module: nn.Module) -> dict[str, Tensor]:
    return dict(unwrapped(module).state_dict())


def parse_arch(text: str) -> dict[str, object]:
    """A network as the command line names it: `SRResNet`, or JSON with `type` and the constructor's arguments.

    Raises:
        WeightsError: the text starts like JSON but is not.
    """
    if not text.lstrip().startswith("{"):
        return {"type": text}
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"--arch is not JSON ({error}): {text}") from error
