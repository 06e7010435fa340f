"""ONNX files as methods, computed by ONNX Runtime."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mvmsr.benchmark.cost import Size
from mvmsr.benchmark.methods import MethodError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_TRIAL = (64, 48)
"""Height and width that a model is tried at: unlike each other, and multiples of what networks usually ask for."""
_UNLIKELY = 20.0
"""Outputs on a grey picture beyond this are levels of 255, not values in [0, 1]."""


class OnnxModel:
    """`model(lq (1, 3, h, w) in [0, 1]) -> sr (1, 3, h * scale, w * scale)` in float32, on the CPU.

    It computes on the device where this ONNX Runtime can, with as many threads as torch.

    Args:
        path: the file.
        device: `cpu` or `cuda`.

    Attributes:
        scale: found by a trial on a small picture.
        size: parameters are counted where the `onnx` package is installed; multiply-adds are not known.

    Raises:
        MethodError: ONNX Runtime is missing or cannot read the file, or the file is not a network for RGB pictures of
            any size.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.session, self.device = _session(path, device)
        self._input, self._dtype = _check_input(path, self.session)
        self.scale = self._trial()
        self.size = Size(_count_parameters(path), None, _file_mib(path))

    def __call__(self, lq: Tensor) -> Tensor:
        """Restores one picture.

        Raises:
            RuntimeError: ONNX Runtime fails, such as on a size that the network cannot take.
            ValueError: the output has another size than the scale says.
        """
        sr = torch.from_numpy(np.asarray(self._run(lq.cpu().numpy()), np.float32))
        expected = (1, 3, lq.shape[2] * self.scale, lq.shape[3] * self.scale)
        if tuple(sr.shape) != expected:
            raise ValueError(f"the network gave {tuple(sr.shape)}, expected {expected}")
        return sr

    def _run(self, lq: np.ndarray) -> np.ndarray:
        try:
            return self.session.run(None, {self._input: lq.astype(self._dtype)})[0]
        except Exception as error:  # its errors share no other base class
            raise RuntimeError(f"{self.path.name}: {_last_line(error)}") from error

    def _trial(self) -> int:
        height, width = _TRIAL
        try:
            sr = self._run(np.full((1, 3, height, width), 0.5, np.float32))
        except RuntimeError as error:
            raise MethodError(
                f"{self.path} fails on a picture of {width}x{height} ({error}); export it with free height and width"
            ) from error
        scale = sr.shape[2] // height if sr.ndim == 4 else 0
        if scale < 1 or tuple(sr.shape) != (1, 3, height * scale, width * scale):
            raise MethodError(
                f"{self.path} makes {tuple(sr.shape)} of a picture (1, 3, {height}, {width}); expected an RGB picture "
                "magnified by a whole number"
            )
        if float(np.abs(sr.astype(np.float32)).mean()) > _UNLIKELY:
            raise MethodError(
                f"{self.path} makes values around {float(sr.mean()):.0f} of a grey picture of 0.5; expected about 0.5. "
                "It seems to work on levels of 255; export it with the division by 255 left out"
            )
        return scale


def _session(path: Path, device: torch.device) -> tuple[InferenceSession, torch.device]:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MethodError(
            f"{path}: ONNX files need ONNX Runtime, which is not installed: pip install 'mvmsr[onnx]' (or onnxruntime)"
        )
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    on_gpu = device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if on_gpu:
        providers.insert(0, "CUDAExecutionProvider")
    elif device.type != "cpu":
        logger.warning("%s computes on the CPU: this ONNX Runtime has nothing for %s", path.name, device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return (
            onnxruntime.InferenceSession(str(path), options, providers=providers),
            device if on_gpu else torch.device("cpu"),
        )
    except Exception as error:  # its errors share no other base class
        raise MethodError(f"{path}: ONNX Runtime cannot read it ({_last_line(error)})") from error


def _check_input(path: Path, session: InferenceSession) -> tuple[str, Any]:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise MethodError(f"{path} takes {len(inputs)} inputs ({names}); expected one, the low-quality picture")
    shape, kind = list(inputs[0].shape), inputs[0].type
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise MethodError(f"{path} takes {shape}; expected RGB pictures (1, 3, height, width)")
    if kind not in _TYPES:
        raise MethodError(f"{path} takes {kind}; expected {' or '.join(_TYPES)} in [0, 1]")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise MethodError(f"{path} takes {shape[0]} pictures at once; export it for one, or with a free batch")
    if any(isinstance(side, int) for side in shape[2:]):
        raise MethodError(
            f"{path} takes pictures of {shape[3]}x{shape[2]} alone; a benchmark's have many sizes, and cutting them up "
            "would change the scores. Export it with free height and width, as `mvmsr export --to onnx` does"
        )
    return inputs[0].name, _TYPES[kind]


def _count_parameters(path: Path) -> int | None:
    """Numbers in the file's tensors of fractions; None without the `onnx` package."""
    if importlib.util.find_spec("onnx") is None:
        return None
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's and onnx's errors share no other base class
        logger.info("%s: parameters are not counted: %s", path, error)
        return None
    kinds = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type in kinds)


def _file_mib(path: Path) -> float:
    files = (path, path.with_name(path.name + ".data"))
    return sum(file.stat().st_size for file in files if file.is_file()) / (1 << 20)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
