"""VGG16 with antialiased pooling: the pooling by loops, ST-LPIPS' file, and its own network's features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvmsr.archs import VGG_LAYERS, VGGFeatures
from mvmsr.archs.antialiased_pool import AntialiasedMaxPool2d
from mvmsr.pretrained import MissingWeights, locate

CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def test_pooling_by_loops() -> None:
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pool = AntialiasedMaxPool2d().double()
    found = pool(x)
    assert found.shape == (2, 3, 4, 3)  # half, and one for the border

    def mirrored(i: int, size: int) -> int:
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i

    line = (0.25, 0.5, 0.25)
    for row in range(4):
        for column in range(3):
            expected = torch.zeros(2, 3, dtype=torch.float64)
            for dy in range(3):
                for dx in range(3):
                    y, z = mirrored(2 * row - 2 + dy, 5), mirrored(2 * column - 2 + dx, 4)
                    expected += line[dy] * line[dx] * x[:, :, y : y + 2, z : z + 2].amax((2, 3))
            torch.testing.assert_close(found[:, :, row, column], expected)


def test_pooling_refuses_what_it_cannot_mirror() -> None:
    with pytest.raises(ValueError, match="at least 4x4, got 3x9"):
        AntialiasedMaxPool2d()(torch.zeros(1, 1, 3, 9))


def _state(convs: int = 13) -> dict[str, Tensor]:
    """ST-LPIPS' keys with tiny numbers: every third or so number is a ReLU, a pooling or its blur."""
    state: dict[str, Tensor] = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "lin0.model.1.weight": torch.ones(1)}
    number, in_ch, generator = 0, 3, torch.Generator().manual_seed(1)
    for conv, out_ch in enumerate(CHANNELS[:convs]):
        if conv in (2, 4, 7, 10):
            state[f"net.slice2.{number + 1}.filt"] = torch.ones(in_ch, 1, 3, 3)
            number += 2
        state[f"net.slice1.{number}.weight"] = torch.randn(out_ch, in_ch, 3, 3, generator=generator) * 0.02
        state[f"net.slice1.{number}.bias"] = torch.randn(out_ch, generator=generator)
        in_ch, number = out_ch, number + 2
    return state


def test_the_trunk_of_stlpips_is_read_under_torchvisions_names(tmp_path: Path) -> None:
    state = _state()
    torch.save(state, tmp_path / "trunk.pth")
    vgg = VGGFeatures("vgg16", ["conv2_1", "pool2"], use_input_norm=False, weights_path=tmp_path / "trunk.pth")
    assert vgg.antialiased
    image = torch.rand(1, 3, 16, 12, generator=torch.Generator().manual_seed(2))
    x = image
    for number in (0, 2):
        x = F.relu(F.conv2d(x, state[f"net.slice1.{number}.weight"], state[f"net.slice1.{number}.bias"], padding=1))
    expected = F.conv2d(AntialiasedMaxPool2d()(x), state["net.slice1.6.weight"], state["net.slice1.6.bias"], padding=1)
    found = vgg(image)
    torch.testing.assert_close(found["conv2_1"], expected)
    assert found["pool2"].shape == (1, 128, 9 // 2 + 1, 7 // 2 + 1)


def test_another_number_of_convolutions_is_refused(tmp_path: Path) -> None:
    torch.save(_state(convs=8), tmp_path / "trunk.pth")
    with pytest.raises(ValueError, match="antialiased network of 8 convolutions, but vgg16 has 13"):
        VGGFeatures("vgg16", ["pool1"], weights_path=tmp_path / "trunk.pth")
    torch.save(_state(), tmp_path / "trunk.pth")
    with pytest.raises(ValueError, match="of 13 convolutions, but vgg19 has 16; ST-LPIPS has a vgg16"):
        VGGFeatures("vgg19", ["pool1"], weights_path=tmp_path / "trunk.pth")


@pytest.fixture(scope="module")
def published() -> Path:
    try:
        return locate("st_lpips_vgg")
    except MissingWeights:
        pytest.skip("the stlpips-pytorch package is not installed")


def test_the_published_file_equals_its_own_network_layer_by_layer(published: Path) -> None:
    """The reference is put together from the file's keys alone: where there is a `filt`, pool and blur by it."""
    state = torch.load(published, map_location="cpu", weights_only=True)
    numbered = {int(k.split(".")[2]): k.rsplit(".", 1)[0] for k in state if k.startswith("net.")}
    x = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    vgg = VGGFeatures("vgg16", ["pool2", "conv5_3"], use_input_norm=False, weights_path=published)
    found = vgg(x)
    expected = []
    for _, key in sorted(numbered.items()):
        if f"{key}.filt" in state:
            x = F.pad(F.max_pool2d(x, 2, 1), (2, 2, 2, 2), "reflect")
            x = F.conv2d(x, state[f"{key}.filt"], stride=2, groups=x.shape[1])
            expected.append(x)
        else:
            before = F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=1)
            x = F.relu(before)
    torch.testing.assert_close(found["pool2"], expected[1])
    torch.testing.assert_close(found["conv5_3"], before)
    assert len(expected) == 4
    assert (
        sum(isinstance(layer, nn.Conv2d) for layer in vgg.features)
        == 13
        == sum("conv" in n for n in VGG_LAYERS["vgg16"])
    )


def test_trained_features_tell_blur_from_a_shift_better_than_pixels(published: Path) -> None:
    """What the features are for: of two changes of equal error in pixels, blur is the larger one to them."""
    generator = torch.Generator().manual_seed(4)
    texture = torch.rand(1, 3, 96, 96, generator=generator)
    texture = F.avg_pool2d(F.pad(texture, (1, 1, 1, 1), "reflect"), 3, 1)
    shifted = texture.roll(1, -1)
    blurred = F.avg_pool2d(F.pad(texture, (2, 2, 2, 2), "reflect"), 5, 1)
    vgg = VGGFeatures("vgg16", ["pool2"], weights_path=published)
    features = {name: vgg(x)["pool2"] for name, x in (("it", texture), ("shifted", shifted), ("blurred", blurred))}

    def distance(name: str, x: Tensor) -> float:
        return ((features[name] - features["it"]).abs().mean() / (x - texture).abs().mean()).item()

    assert distance("blurred", blurred) > distance("shifted", shifted)
