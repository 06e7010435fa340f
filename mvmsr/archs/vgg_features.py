"""Feature maps of VGG16 and VGG19, for perceptual losses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mvmsr.archs.antialiased_pool import AntialiasedMaxPool2d

# Convolutions in each of the five stages; their channels.
_STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


def _layer_names(stages: Sequence[int]) -> tuple[str, ...]:
    names: list[str] = []
    for stage, convs in enumerate(stages, start=1):
        for conv in range(1, convs + 1):
            names += [f"conv{stage}_{conv}", f"relu{stage}_{conv}"]
        names.append(f"pool{stage}")
    return tuple(names)


VGG_LAYERS = {vgg_type: _layer_names(stages) for vgg_type, stages in _STAGES.items()}
"""Names of the layers in order; the position is torchvision's index within `features`."""


class VGGFeatures(nn.Module):
    """(N, 3, H, W) images -> {layer: feature maps}; frozen, always in evaluation mode, but passing gradients on.

    Args:
        vgg_type: "vgg16" or "vgg19".
        layers: names of `VGG_LAYERS`, such as "conv5_4" (before its ReLU), "relu5_4", "pool5". Nothing behind the
            last of them is built.
        use_input_norm: subtract ImageNet's mean and divide by its standard deviation.
        range_norm: the images come in [-1, 1] instead of [0, 1].
        weights_path: a state dict of torchvision's network or of its `features` alone (.pth or .safetensors), or
            that of ST-LPIPS, whose trunk is a VGG16 with antialiased pooling; None for random weights.

    Raises:
        ValueError: an unknown network or layer; a file that does not fit the network.
        FileNotFoundError: there is no such file.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014;
    layer numbers of https://pytorch.org/vision/stable/models/vgg.html; the antialiased trunk is that of
    https://github.com/abhijay9/ShiftTolerant-LPIPS
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        vgg_type: str,
        layers: Sequence[str],
        use_input_norm: bool = True,
        range_norm: bool = False,
        weights_path: str | Path | None = None,
    ) -> None:
        super().__init__()
        if vgg_type not in VGG_LAYERS:
            raise ValueError(f"vgg_type must be one of {', '.join(VGG_LAYERS)}, got {vgg_type!r}")
        names = VGG_LAYERS[vgg_type]
        if isinstance(layers, str) or not layers:
            raise ValueError(f"layers must be a list of at least one layer name, got {layers!r}")
        if unknown := [name for name in layers if name not in names]:
            raise ValueError(f"{vgg_type} has no layer {', '.join(unknown)}; it has {', '.join(names)}")
        self.layers = tuple(layers)
        self.use_input_norm = use_input_norm
        self.range_norm = range_norm
        last = max(names.index(name) for name in layers)
        state = None if weights_path is None else _read(Path(weights_path))
        self.antialiased = state is not None and any(key.endswith(".filt") for key in state)
        layer_list = (_make_layer(name, names, layers, self.antialiased) for name in names[: last + 1])
        self.features = nn.Sequential(*layer_list)
        self._names = names[: last + 1]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        if weights_path is not None and state is not None:
            path = Path(weights_path)
            if self.antialiased:
                state = _without_blur(state, vgg_type, path)
            self.features.load_state_dict(_select(state, self.features, vgg_type, path))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> VGGFeatures:
        """Stays in evaluation mode, also inside of a module that trains."""
        return super().train(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if self.range_norm:
            images = (images + 1) / 2
        if self.use_input_norm:
            images = (images - self.mean) / self.std
        found: dict[str, Tensor] = {}
        for name, layer in zip(self._names, self.features, strict=True):
            images = layer(images)
            if name in self.layers:
                found[name] = images
        return {name: found[name] for name in self.layers}


def _make_layer(name: str, names: Sequence[str], wanted: Sequence[str], antialiased: bool) -> nn.Module:
    stage = int(name[4])
    if name.startswith("pool"):
        return AntialiasedMaxPool2d() if antialiased else nn.MaxPool2d(2)
    if name.startswith("relu"):
        # In place, unless that would overwrite a map that is to be returned.
        return nn.ReLU(inplace=names[names.index(name) - 1] not in wanted)
    opens_stage = name.endswith("_1")
    in_ch = 3 if name == "conv1_1" else _CHANNELS[stage - 2] if opens_stage else _CHANNELS[stage - 1]
    return nn.Conv2d(in_ch, _CHANNELS[stage - 1], 3, padding=1)


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"no VGG weights at {path}; give the path of torchvision's state dict (.pth)")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _without_blur(state: Mapping[str, Tensor], vgg_type: str, path: Path) -> dict[str, Tensor]:
    """An ST-LPIPS state under torchvision's names: its convolutions in their order, nothing of its judgement.

    Its keys are `net.slice<stage>.<number>.<part>`, numbers counting the blur that follows each pooling.
    """
    pattern = re.compile(r"net\.slice\d+\.(\d+)\.weight")
    numbers = sorted(int(found[1]) for key in state if (found := pattern.fullmatch(key)))
    convs = [i for i, name in enumerate(VGG_LAYERS[vgg_type]) if name.startswith("conv")]
    if len(numbers) != len(convs):
        raise ValueError(
            f"{path} is an antialiased network of {len(numbers)} convolutions, but {vgg_type} has {len(convs)}; "
            "ST-LPIPS has a vgg16"
        )
    where = dict(zip(numbers, convs, strict=True))
    renamed = {}
    for key, value in state.items():
        if found := re.fullmatch(r"net\.slice\d+\.(\d+)\.(weight|bias)", key):
            renamed[f"features.{where[int(found[1])]}.{found[2]}"] = value
    return renamed


def _select(state: Mapping[str, Tensor], features: nn.Sequential, vgg_type: str, path: Path) -> dict[str, Tensor]:
    """The part of `state` that `features` needs, by its own names, after checking that all of it is this network's."""
    prefix = "features." if any(key.startswith("features.") for key in state) else ""
    convs = {i for i, name in enumerate(VGG_LAYERS[vgg_type]) if name.startswith("conv")}
    ours = {f"{prefix}{i}.{part}" for i in convs for part in ("weight", "bias")}
    strangers = sorted(
        key for key in state if key not in ours and not re.match(r"classifier\.\d+\.(weight|bias)$", key)
    )
    if strangers:
        raise ValueError(
            f"{path} is not a state dict of {vgg_type}: unexpected {', '.join(strangers[:5])}"
            f"{' and more' if len(strangers) > 5 else ''}; give torchvision's {vgg_type} (without batch normalisation)"
        )
    selected: dict[str, Tensor] = {}
    for name, parameter in features.state_dict().items():
        value = state.get(prefix + name)
        if value is None:
            raise ValueError(f"{path} lacks {prefix + name}, which {vgg_type} needs; is the file complete?")
        if value.shape != parameter.shape:
            raise ValueError(
                f"{path}: {prefix + name} has shape {tuple(value.shape)}, {vgg_type} needs {tuple(parameter.shape)}"
            )
        selected[name] = value
    return selected
