"""Training goes on from any weights file that spandrel reads."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from mvmsr.registry import ARCHS


class _Padding:
    """Mixed in before a network's class: pads what the network cannot take, and crops its output accordingly."""

    scale: int

    def forward(self, lq: Tensor) -> Tensor:
        height, width = lq.shape[-2:]
        extra_width, extra_height = self.mvmsr_size_requirements.get_padding(width, height)  # type: ignore[attr-defined]
        if not (extra_width or extra_height):
            return super().forward(lq)  # type: ignore[misc]
        padded = F.pad(lq, (0, extra_width, 0, extra_height), mode="replicate")
        return super().forward(padded)[..., : height * self.scale, : width * self.scale]  # type: ignore[misc]


@ARCHS.register("spandrel")
def spandrel_net(path: str) -> nn.Module:
    """The network of a weights file, ready to train: (N, C, h, w) -> (N, C, h*scale, w*scale), not clamped.

    Architecture and sizes are recognised from the file (ESRGAN, SwinIR, HAT, Real-ESRGAN's compact networks, ...).
    Parameters keep the file's names, so that a state dict saved after training can be read as the file was.
    The network has an attribute `scale`.

    Args:
        path: .pth, .pt, .ckpt or .safetensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: spandrel does not know the network, or it is not one from image to image.
        ImportError: spandrel is not installed.

    Source: https://github.com/chaiNNer-org/spandrel
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no weights file at {file}; `path` of a `spandrel` network names an existing file")
    try:
        import spandrel
    except ImportError as error:
        raise ImportError(f"reading {file} needs spandrel; install it by `pip install spandrel`") from error
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(file)
    except spandrel.UnsupportedModelError as error:
        raise ValueError(
            f"{file}: spandrel {spandrel.__version__} recognises no network in it; "
            "weights of our own networks are given by `type` and `path.pretrain_network_g`"
        ) from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise ValueError(f"{file}: {descriptor.architecture.name} does not turn an image into an image")
    return _adopt(descriptor.model, descriptor.scale, descriptor.size_requirements)


def _adopt(model: nn.Module, scale: int, size_requirements: object) -> nn.Module:
    kind = type(model)
    theirs = getattr(model, "scale", scale)
    if not isinstance(theirs, int) or theirs != scale:
        raise ValueError(
            f"{kind.__name__} has an attribute `scale` of another meaning ({theirs!r}); it cannot be trained here"
        )
    # A wrapping module would rename every parameter; a subclass leaves them as they are in the file.
    model.__class__ = type(kind.__name__, (_Padding, kind), {"__module__": __name__})
    model.scale = scale
    model.mvmsr_size_requirements = size_requirements
    return model.train().requires_grad_(True)
