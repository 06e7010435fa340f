"""ONNX files as methods of a benchmark."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mvmsr.benchmark.cost import Size
from mvmsr.benchmark.methods import MethodError
from mvmsr.inference.onnx_network import OnnxNetwork
from mvmsr.inference.restorer import Restorer, load_restorer
from mvmsr.inference.weights_file import WeightsError


class OnnxModel:
    """`model(lq (1, 3, h, w) in [0, 1]) -> sr (1, 3, h * scale, w * scale)` in float32.

    Args:
        path: the file.
        device: `auto`, `cpu`, `cuda`.

    Attributes:
        size: parameters are counted where the `onnx` package is installed; multiply-adds are not known.

    Raises:
        MethodError: see `OnnxNetwork`.
    """

    def __init__(self, path: Path, device: str) -> None:
        try:
            self._restorer: Restorer = load_restorer(path, device)
        except WeightsError as error:
            raise MethodError(str(error)) from error
        self.scale, self.device = self._restorer.scale, self._restorer.device
        network = self._restorer.module
        assert isinstance(network, OnnxNetwork)
        self.size = Size(network.parameter_count, None, _file_mib(path))

    def __call__(self, lq: Tensor) -> Tensor:
        """Restores one picture; see `Restorer`."""
        return self._restorer(lq)


def _file_mib(path: Path) -> float:
    files = (path, path.with_name(path.name + ".data"))
    return sum(file.stat().st_size for file in files if file.is_file()) / (1 << 20)
