"""Tiled equals untiled, for every network that can be tiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_archs import GENERATORS
from torch import Tensor, nn

from mvmsr.inference import load_generator, measure_margins, run_tiled
from mvmsr.inference.receptive_field import Margins
from mvmsr.registry import ARCHS

NETWORKS = {
    **{name: (name, arguments) for name, arguments in GENERATORS.items()},
    "SRResNet without bn, bilinear": (
        "SRResNet",
        {"num_feat": 8, "num_block": 2, "bn": False, "global_skip": "bilinear"},
    ),
    "SRResNet, bicubic": ("SRResNet", {"num_feat": 8, "num_block": 2, "global_skip": "bicubic"}),
    "RDN, bicubic": (
        "RDN",
        {"num_feat": 8, "num_block": 2, "num_layer": 2, "num_grow_ch": 4, "global_skip": "bicubic"},
    ),
    "NSRNet, bilinear": ("NSRNet", {"num_feat": 8, "num_layer": 2, "global_skip": "bilinear"}),
}
LEVEL = 1 / 255


def _loud(module: nn.Module) -> nn.Module:
    """Random weights under which every pixel in reach matters."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
    return module.eval()


def _margins(module: nn.Module, scale: int) -> Margins:
    return measure_margins(module, scale, getattr(module, "multiple", 1))


def _worst(module: nn.Module, lq: Tensor, scale: int, tile: int, margins: Margins) -> float:
    with torch.no_grad():
        whole = module(lq)
        tiled = run_tiled(module, lq, scale, tile, margins.halo, margins.blend, margins.multiple)
    assert tiled.shape == whole.shape
    return float((tiled - whole).abs().max() / whole.abs().max().clamp(min=1))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiled_equals_untiled_at_every_pixel(name: str, scale: int) -> None:
    arch, arguments = NETWORKS[name]
    module = _loud(ARCHS.get(arch)(**arguments, upscale=scale))
    margins = _margins(module, scale)
    assert margins.blend == 0, "a convolutional network has exact margins"
    lq = torch.rand(1, 3, 61, 45)
    assert _worst(module, lq, scale, 16, margins) < 1e-4
    if margins.halo > 2:  # and the halo is no larger than it must be by much
        assert _worst(module, lq, scale, 16, Margins(margins.halo // 3)) > 1e-4


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, int], tuple[nn.Module, Margins]]:
    made = {}
    for name in ("SRResNet, bicubic", "MSRResNet", "Compact"):
        for scale in (2, 3):
            arch, arguments = NETWORKS[name]
            module = _loud(ARCHS.get(arch)(**{**arguments, "num_feat": 4}, upscale=scale))
            made[name, scale] = (module, _margins(module, scale))
    return made


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["SRResNet, bicubic", "MSRResNet", "Compact"]),
    st.sampled_from([2, 3]),
    st.integers(1, 48),
    st.integers(1, 48),
    st.integers(8, 50),
    st.integers(0, 6),
)
def test_whatever_the_sizes(measured, name: str, scale: int, height: int, width: int, tile: int, blend: int) -> None:
    module, margins = measured[name, scale]
    lq = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * 61 + width))
    assert _worst(module, lq, scale, tile, Margins(margins.halo, blend)) < LEVEL / 4


def _foreign(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "RRDBNet":
        from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

        return RRDBNet(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4)
    if kind == "Compact":
        from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

        return SRVGGNetCompact(num_feat=8, num_conv=3, upscale=4)
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    options = {"img_size": 16, "window_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [2]}
    return SwinIR(upscale=2, upsampler="pixelshuffledirect", **options)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(
    "kind", ["Compact", *(pytest.param(name, marks=pytest.mark.slow) for name in ("RRDBNet", "SwinIR"))]
)
def test_networks_that_spandrel_builds(kind: str, tmp_path: Path) -> None:
    torch.save(_foreign(kind).state_dict(), tmp_path / "weights.pth")
    module, info = load_generator(tmp_path / "weights.pth")
    margins = _margins(module, info.scale)
    assert (margins.blend > 0 or margins.multiple > 1) == (kind == "SwinIR")
    assert _worst(module, torch.rand(1, 3, 75, 60), info.scale, 24, margins) <= LEVEL


def test_one_tile_that_overflows_is_computed_again_alone() -> None:
    from mvmsr.inference import Restorer

    class Overflowing(nn.Module):
        """Overflows in half precision where the picture is bright."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)
            nn.init.dirac_(self.conv.weight)
            self.calls: list[torch.dtype] = []

        def forward(self, lq: Tensor) -> Tensor:
            features = self.conv(lq)
            self.calls.append(features.dtype)
            overflows = features.dtype != torch.float32 and bool((lq > 0.9).any())
            return features * torch.inf if overflows else features

    network = Overflowing()
    lq = torch.full((1, 3, 8, 24), 0.5)
    lq[..., 20] = 1.0
    tiled = run_tiled(Restorer(network, 1, "cpu", "bf16-mixed"), lq, 1, 8, 0)
    assert network.calls == [torch.bfloat16] * 3 + [torch.float32]
    assert torch.equal(tiled, lq)
