"""Networks of other tools (ESRGAN, SwinIR, ...), recognised by spandrel from the names and shapes of their tensors."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mvmsr.archs.bounded_building import bounded_by
from mvmsr.archs.padded import Padded
from mvmsr.archs.spandrel_net import SPARE_VALUES
from mvmsr.inference.weights_file import WeightsError, first_line

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

logger = logging.getLogger(__name__)


class ForeignNetwork(nn.Module):
    """A spandrel model that looks like one of ours: `forward(lq (N, 3, h, w)) -> (N, 3, h*scale, w*scale)`.

    The call is the descriptor's own, which pads to the sizes the network can take and clamps to [0, 1].

    Attributes:
        multiple: sizes must be multiples of this; tiles start at multiples of it.
        minimum: the smallest side that is not padded.
        tileable: False where the network needs to see the whole picture.
        precisions: the precisions that its authors say it can compute in.
    """

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module]) -> None:
        super().__init__()
        from spandrel import ModelTiling

        self.model = descriptor.model
        self.scale = int(descriptor.scale)
        self.multiple = int(descriptor.size_requirements.multiple_of)
        self.minimum = int(descriptor.size_requirements.minimum)
        self.tileable = descriptor.tiling == ModelTiling.SUPPORTED and not descriptor.size_requirements.square
        half = (("16-mixed", descriptor.supports_half), ("bf16-mixed", descriptor.supports_bfloat16))
        self.precisions = ("32", *(name for name, supported in half if supported))
        self._by_channel = descriptor.input_channels == 1
        self._descriptor = descriptor

    def forward(self, lq: Tensor) -> Tensor:
        if not self._by_channel:
            return self._descriptor(lq)
        # A network for grey pictures sees each channel as a picture.
        planes = self._descriptor(lq.flatten(0, 1).unsqueeze(1))
        return planes.unflatten(0, lq.shape[:2]).squeeze(2)


def unwrapped(module: nn.Module) -> nn.Module:
    """The network itself, without what we put around another tool's or one that needs padding."""
    return module.model if isinstance(module, (ForeignNetwork, Padded)) else module


def recognise(path: Path, state: dict[str, Tensor]) -> tuple[ForeignNetwork, str]:
    """The network that a plain state belongs to, loaded, in eval mode, and spandrel's name of its architecture.

    Raises:
        WeightsError: spandrel is not installed, does not know the state, or it is not of a network that turns RGB
            (or grey) pictures into pictures.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict
    except ImportError as error:
        raise WeightsError(
            f"{path}: has no mvmsr description, and spandrel, which reads other tools' files, is not installed. "
            "Install it: pip install spandrel"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid")  # about the authors' code, not the user's
            with bounded_by(state, SPARE_VALUES):
                descriptor = ModelLoader(torch.device("cpu")).load_from_state_dict(canonicalize_state_dict(state))
    except UnsupportedModelError as error:
        raise WeightsError(
            f"{path}: a plain state file ({len(state)} tensors, first {next(iter(state))[:100]!r}) of a network that "
            "spandrel does not know; it does not say which network it needs. Name it and its arguments: "
            'mvmsr export FILE --arch \'{"type": "SRResNet", "num_block": 16}\' --to safetensors -o NEW.safetensors, '
            "or load_generator(path, arch={...})"
        ) from error
    except Exception as error:  # it reads sizes off names and shapes, and takes them at their word
        reason = first_line(error)
        raise WeightsError(f"{path}: spandrel cannot load it ({reason}). The file may be damaged") from error
    name = descriptor.architecture.name
    channels = (descriptor.input_channels, descriptor.output_channels)
    if not isinstance(descriptor, ImageModelDescriptor) or channels not in ((3, 3), (1, 1)):
        raise WeightsError(
            f"{path}: {name} takes {channels[0]} and gives {channels[1]} channels for {descriptor.purpose}; "
            "only networks from RGB (or grey) images to the same can be used"
        )
    logger.info("%s: %s x%d by spandrel", path, name, descriptor.scale)
    return ForeignNetwork(descriptor).eval(), name
