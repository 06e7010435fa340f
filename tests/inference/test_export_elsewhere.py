"""Exported files give the same picture in the tools that they are written for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from mvmsr import basicsr_shim
from mvmsr.archs import Compact, MSRResNet
from mvmsr.inference import load_generator, save_weights
from mvmsr.inference.export import export

NETWORKS = {
    "Compact": (Compact, {"num_feat": 8, "num_conv": 2, "upscale": 4}),
    "MSRResNet": (MSRResNet, {"num_feat": 8, "num_block": 2, "upscale": 4}),
}


def _exported(name: str, to: str, path: Path) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network, args = NETWORKS[name]
    source = save_weights(path / "source.safetensors", network(**args).state_dict(), name, args, 4)
    module, info = load_generator(source)
    target = path / f"exported.{to}"
    export(module, info, to, target)
    return module, target


def _same(ours: nn.Module, theirs: nn.Module, limit: float = 1e-5) -> bool:
    lq = torch.rand(1, 3, 13, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return bool((ours(lq).clamp(0, 1) - theirs(lq).clamp(0, 1)).abs().max() <= limit)


@pytest.mark.parametrize("to", ["pth", "safetensors"])
def test_spandrel_reads_compact(tmp_path: Path, to: str) -> None:
    from spandrel import ModelLoader

    module, path = _exported("Compact", to, tmp_path)
    descriptor = ModelLoader("cpu").load_from_file(path)
    assert (descriptor.architecture.id, descriptor.scale) == ("Compact", 4)
    assert _same(module, descriptor.model)


@pytest.mark.slow  # importing BasicSR takes seconds
@pytest.mark.parametrize(
    ("name", "theirs"), [("Compact", "srvgg_arch.SRVGGNetCompact"), ("MSRResNet", "srresnet_arch.MSRResNet")]
)
def test_basicsr_reads_pth(tmp_path: Path, name: str, theirs: str) -> None:
    if importlib.util.find_spec("basicsr") is None:
        pytest.skip("BasicSR is not installed")
    module, path = _exported(name, "pth", tmp_path)
    file, kind = theirs.split(".")
    basicsr_shim.import_basicsr("basicsr.archs")
    other = getattr(basicsr_shim.import_basicsr(f"basicsr.archs.{file}"), kind)(**NETWORKS[name][1]).eval()
    other.load_state_dict(torch.load(path, weights_only=True)["params_ema"], strict=True)  # as BasicSR does
    assert _same(module, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_reads_onnx(tmp_path: Path, name: str) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    module, path = _exported(name, "onnx", tmp_path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])

    class Session(nn.Module):
        def forward(self, lq: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0])

    assert _same(module, Session(), 1e-4)
