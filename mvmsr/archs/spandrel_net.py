"""Networks from any weights file that spandrel reads, to train on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mvmsr.archs.bounded_building import bounded_by
from mvmsr.archs.padded import mirrored
from mvmsr.registry import ARCHS

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

SPARE_VALUES = 2**26
"""Tables of positions and masks that these networks compute while they are built; measured: up to a tenth of it."""


@ARCHS.register("spandrel")
class SpandrelNet(nn.Module):
    """The network of a weights file, ready to train: (N, C, h, w) -> (N, C, h*scale, w*scale), not clamped.

    Architecture, sizes and scale are recognised from the file (ESRGAN, SwinIR, HAT, Real-ESRGAN's compact networks,
    ...). Parameters have the names that spandrel gives them, without a prefix, so that a state dict saved after
    training is again a file of that kind. Sizes that the network cannot take are padded, and the output is cropped.

    Args:
        path: .pth, .pt, .ckpt or .safetensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: spandrel does not know the network or cannot load it, or it is not one from image to image.
        ImportError: spandrel is not installed.

    Source: https://github.com/chaiNNer-org/spandrel
    """

    _network: nn.Module

    def __init__(self, path: str) -> None:
        super().__init__()
        descriptor = _load(Path(path))
        network = descriptor.model
        # As a child, the network would put its name before those of its parameters. Instead, the two modules share
        # one set of tables. A subclass would not do: networks use the attribute `scale` in senses of their own.
        self._parameters = network._parameters
        self._buffers = network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set
        self._modules = network._modules
        object.__setattr__(self, "_network", network)
        self._size_requirements = descriptor.size_requirements
        self.scale = int(descriptor.scale)
        self.train().requires_grad_(True)

    def train(self, mode: bool = True) -> SpandrelNet:
        self._network.train(mode)
        return super().train(mode)

    def forward(self, lq: Tensor) -> Tensor:
        height, width = lq.shape[-2:]
        extra_width, extra_height = self._size_requirements.get_padding(width, height)
        return self._network(mirrored(lq, extra_height, extra_width))[..., : height * self.scale, : width * self.scale]


def _load(file: Path) -> ImageModelDescriptor:
    if not file.is_file():
        raise FileNotFoundError(f"no weights file at {file}; `path` of a `spandrel` network names an existing file")
    try:
        import spandrel
    except ImportError as error:
        raise ImportError(f"reading {file} needs spandrel; install it by `pip install spandrel`") from error
    try:
        loader = spandrel.ModelLoader(device="cpu")
        state = loader.load_state_dict_from_file(file)
        with bounded_by(state, SPARE_VALUES):
            descriptor = loader.load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise ValueError(
            f"{file}: spandrel {spandrel.__version__} recognises no network in it; "
            "weights of our own networks are given by `type` and `path.pretrain_network_g`"
        ) from error
    except Exception as error:  # it reads sizes off names and shapes, and takes them at their word
        raise ValueError(f"{file}: spandrel {spandrel.__version__} cannot load it: {error}") from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise ValueError(f"{file}: {descriptor.architecture.name} does not turn an image into an image")
    return descriptor
