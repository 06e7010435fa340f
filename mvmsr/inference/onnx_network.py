"""ONNX files as networks, computed by ONNX Runtime."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mvmsr.inference.weights_file import WeightsError, WeightsInfo, last_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

logger = logging.getLogger(__name__)

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_TRIAL = (64, 48)
"""Height and width that a model is tried at: unlike each other, and multiples of what networks usually ask for."""
_UNLIKELY = 20.0
"""Outputs on a grey picture beyond this are levels of 255, not values in [0, 1]."""
_USUAL_CHANNELS = 64
"""At the size of the output, of the largest maps; where a file's graph cannot be read."""


class OnnxNetwork(nn.Module):
    """`network(lq (N, 3, h, w) in [0, 1]) -> sr (N, 3, h * scale, w * scale)`, float32, by ONNX Runtime.

    It computes on the device where this ONNX Runtime can, else on the CPU with as many threads as torch, in the
    precision of the file.

    Args:
        path: the file.
        device: where to compute.

    Attributes:
        scale: found by a trial on a small picture.
        parameter_count: numbers in the file's tensors of fractions; None without the `onnx` package.
        bytes_per_pixel: a cautious estimate of what an input pixel needs in memory.

    Raises:
        WeightsError: ONNX Runtime is missing or cannot read the file, or the file is not a network for RGB pictures of
            any size.
    """

    precisions: ClassVar[tuple[str, ...]] = ("32",)

    def __init__(self, path: str | Path, device: torch.device) -> None:
        super().__init__()
        self.path = Path(path)
        self.session = _session(self.path, device)
        self._input, self._dtype, self._one_by_one = _check_input(self.path, self.session)
        self.scale = self._trial()
        self.parameter_count, channels = _read_graph(self.path, self.scale)
        # Four times the largest map, as for networks of torch: input, output, workspace, a skip connection.
        self.bytes_per_pixel = 4 * channels * 4 * self.scale**2

    def forward(self, lq: Tensor) -> Tensor:
        """Enlarges a batch.

        Raises:
            RuntimeError: ONNX Runtime fails, such as on a size that the network cannot take.
        """
        pictures = lq.detach().cpu().numpy()
        parts = [pictures[i : i + 1] for i in range(len(pictures))] if self._one_by_one else [pictures]
        sr = np.concatenate([self._run(part) for part in parts])
        return torch.from_numpy(np.asarray(sr, np.float32)).to(lq.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        return self  # a session cannot be copied, and has no state that a run would change

    def _run(self, lq: np.ndarray) -> np.ndarray:
        try:
            return self.session.run(None, {self._input: np.ascontiguousarray(lq, self._dtype)})[0]
        except Exception as error:  # its errors share no other base class
            raise RuntimeError(f"{self.path.name}: {last_line(error)}") from error

    def _trial(self) -> int:
        height, width = _TRIAL
        try:
            sr = self._run(np.full((1, 3, height, width), 0.5, np.float32))
        except RuntimeError as error:
            raise WeightsError(
                f"{self.path} fails on an image of {width}x{height} ({error}); export it with free height and width"
            ) from error
        scale = sr.shape[2] // height if sr.ndim == 4 else 0
        if scale < 1 or tuple(sr.shape) != (1, 3, height * scale, width * scale):
            raise WeightsError(
                f"{self.path} makes {tuple(sr.shape)} of an image (1, 3, {height}, {width}); expected an RGB image "
                "magnified by a whole number"
            )
        if float(np.abs(sr.astype(np.float32)).mean()) > _UNLIKELY:
            raise WeightsError(
                f"{self.path} makes values around {float(sr.mean()):.0f} of a grey image of 0.5; expected about 0.5. "
                "It seems to work on levels of 255; export it with the division by 255 left out"
            )
        return scale


def load_onnx(path: Path, device: torch.device) -> tuple[OnnxNetwork, WeightsInfo]:
    """The network of an ONNX file and its description.

    Raises:
        WeightsError: see `OnnxNetwork`.
    """
    network = OnnxNetwork(path, device)
    return network, WeightsInfo(path, "ONNX", network.scale, network.parameter_count or 0, source="onnx")


def _session(path: Path, device: torch.device) -> InferenceSession:
    if importlib.util.find_spec("onnxruntime") is None:
        raise WeightsError(f"{path}: ONNX files need ONNX Runtime, which is not installed: pip install onnxruntime")
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    elif device.type != "cpu":
        logger.warning("%s computes on the CPU: this ONNX Runtime has nothing for %s", path.name, device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors share no other base class
        raise WeightsError(f"{path}: ONNX Runtime cannot read it ({last_line(error)})") from error


def _check_input(path: Path, session: InferenceSession) -> tuple[str, Any, bool]:
    """Name and type of the input, and whether it takes a single picture at a time."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise WeightsError(f"{path} takes {len(inputs)} inputs ({names}); expected one, the low-quality image")
    shape, kind = list(inputs[0].shape), inputs[0].type
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise WeightsError(f"{path} takes {shape}; expected RGB images (1, 3, height, width)")
    if kind not in _TYPES:
        raise WeightsError(f"{path} takes {kind}; expected {' or '.join(_TYPES)} in [0, 1]")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise WeightsError(f"{path} takes {shape[0]} images at once; export it for one, or with a free batch")
    if any(isinstance(side, int) for side in shape[2:]):
        raise WeightsError(
            f"{path} takes images of {shape[3]}x{shape[2]} alone; export it with free height and width, as "
            "`mvmsr export --to onnx` does"
        )
    return inputs[0].name, _TYPES[kind], shape[0] == 1


def _read_graph(path: Path, scale: int) -> tuple[int | None, int]:
    """How many parameters there are (None if that cannot be told), and the largest map's values for an output pixel."""
    if importlib.util.find_spec("onnx") is None:
        return None, _USUAL_CHANNELS
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        parameters = _count_parameters(model.graph)
    except Exception as error:  # protobuf's and onnx's errors share no other base class
        logger.info("%s: its graph is not read: %s", path, error)
        return None, _USUAL_CHANNELS
    try:  # what ONNX calls shape inference: the shape of every map, from that of the input
        sizes = _map_sizes(onnx.shape_inference.infer_shapes(_for_picture(model, 16)), scale * 16)
    except Exception as error:
        logger.info("%s: its maps' sizes are not known: %s", path, error)
        return parameters, _USUAL_CHANNELS
    return parameters, max([3, *sizes])


def _count_parameters(graph: Any) -> int:
    import onnx

    kinds = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer if tensor.data_type in kinds)


def _for_picture(model: Any, side: int) -> Any:
    """The model for one square picture, so that every map's shape follows."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dimension, value in zip(fixed.graph.input[0].type.tensor_type.shape.dim, (1, 3, side, side), strict=True):
        dimension.dim_value = value
    return fixed


def _map_sizes(model: Any, side: int) -> list[int]:
    """Values of each map for each pixel of an output of `side` x `side`, rounded up."""
    sizes = []
    for value in model.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if len(dims) >= 4 and all(dims):
            sizes.append(-(-int(np.prod(dims)) // side**2))
    return sizes
