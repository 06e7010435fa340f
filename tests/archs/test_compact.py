from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvmsr.archs import Compact, count_parameters
from mvmsr.inference import load_generator, save_weights
from mvmsr.registry import ARCHS


def _spandrels(num_feat: int = 64, num_conv: int = 16, upscale: int = 4) -> nn.Module:
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    return SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=num_feat, num_conv=num_conv, upscale=upscale).eval()


def _with_random_slopes(network: Compact) -> Compact:
    with torch.no_grad():
        for layer in network.body:
            if isinstance(layer, nn.PReLU):
                layer.weight.uniform_(-0.2, 0.6)
    return network.eval()


def _differences(ours: nn.Module, theirs: nn.Module) -> Tensor:
    lq = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (ours(lq) - theirs(lq)).abs().max()


@pytest.mark.parametrize(("num_conv", "upscale"), [(16, 4), (32, 4), (16, 2)])
def test_parameters_by_hand(num_conv: int, upscale: int) -> None:
    first, last = 9 * 3 * 64 + 64 + 64, 9 * 64 * 3 * upscale**2 + 3 * upscale**2
    by_hand = first + num_conv * (9 * 64 * 64 + 64 + 64) + last
    assert count_parameters(Compact(num_conv=num_conv, upscale=upscale)) == by_hand
    if (num_conv, upscale) == (16, 4):
        assert by_hand == 621_424


@pytest.mark.parametrize(("num_conv", "upscale"), [(3, 4), (2, 2), (1, 3), (2, 1)])
def test_same_values_as_spandrels(num_conv: int, upscale: int) -> None:
    torch.manual_seed(upscale)
    ours = _with_random_slopes(Compact(num_feat=8, num_conv=num_conv, upscale=upscale))
    theirs = _spandrels(8, num_conv, upscale)
    theirs.load_state_dict(ours.state_dict())
    assert _differences(ours, theirs) < 1e-6


@pytest.mark.slow  # importing BasicSR takes seconds
def test_same_values_as_basicsrs() -> None:
    if importlib.util.find_spec("basicsr") is None:
        pytest.skip("BasicSR is not installed")
    torch.manual_seed(0)
    ours = _with_random_slopes(Compact(num_feat=8, num_conv=3, upscale=4))
    theirs = ARCHS.get("SRVGGNetCompact_basicsr")(num_feat=8, num_conv=3, upscale=4).eval()
    theirs.load_state_dict(ours.state_dict())
    assert _differences(ours, theirs) < 1e-6


def test_its_weights_are_a_file_that_spandrel_knows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = _with_random_slopes(Compact(num_feat=8, num_conv=3, upscale=2))
    torch.save({"params_ema": ours.state_dict()}, tmp_path / "compact.pth")
    theirs, info = load_generator(tmp_path / "compact.pth")
    assert (info.source, info.arch, info.scale) == ("spandrel", "RealESRGAN Compact", 2)
    lq = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.allclose(theirs(lq), ours(lq).clamp(0, 1), atol=1e-6)


def test_our_own_file_of_it_is_read_as_ours_and_by_spandrel(tmp_path: Path) -> None:
    from spandrel import ModelLoader

    args = {"num_feat": 8, "num_conv": 3, "upscale": 4}
    ours = _with_random_slopes(Compact(**args))
    path = save_weights(tmp_path / "compact.safetensors", ours.state_dict(), "Compact", args, 4)
    assert load_generator(path)[1].source == "mvmsr"
    assert _differences(ours, ModelLoader("cpu").load_from_file(path).model) < 1e-6


def test_layers_between_start_near_the_identity() -> None:
    torch.manual_seed(0)
    for layer in Compact(num_feat=16, num_conv=3).body[2:-1:2]:
        beside = layer.weight.detach().clone()
        beside[range(16), range(16), 1, 1] -= 1
        by_hand = 0.2 * (2 / (1 + 0.25**2) / (16 * 9)) ** 0.5
        assert beside.std() == pytest.approx(by_hand, rel=0.1)
        assert abs(beside.mean()) < by_hand / 10


def test_it_starts_next_to_the_repeated_pixels_with_features_of_even_size() -> None:
    torch.manual_seed(0)
    network = Compact()
    lq = torch.rand(1, 3, 24, 24)
    sizes = []
    features = lq
    with torch.no_grad():
        for layer in network.body[:-1]:
            features = layer(features)
            if isinstance(layer, nn.PReLU):
                sizes.append(float(features.square().mean()))
        correction = network(lq) - F.interpolate(lq, scale_factor=4, mode="nearest")
    assert max(sizes) / min(sizes) < 10  # PyTorch's default would shrink them by 1e10
    assert correction.abs().mean() < 0.15


@pytest.mark.parametrize(
    ("options", "message"), [({"upscale": 5}, "upscale=5"), ({"num_in_ch": 3, "num_out_ch": 4}, "3 and 4 channels")]
)
def test_what_it_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compact(**options)
