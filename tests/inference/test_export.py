from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvmsr.inference import WeightsError, load_generator
from mvmsr.inference import export as export_room
from mvmsr.inference.export import export, parse_arch


@pytest.mark.filterwarnings("ignore:`torch.jit.load`")
@pytest.mark.parametrize("to", ["pth", "safetensors", "torchscript"])
def test_exports_give_the_same_pictures(weights: Path, tmp_path: Path, to: str) -> None:
    module, info = load_generator(weights)
    path = tmp_path / "out" / f"model{export_room.FORMATS[to]}"
    assert export(module, info, to, path) <= 1e-5
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    lq = torch.rand(1, 3, 13, 10)
    reread = torch.jit.load(path) if to == "torchscript" else load_generator(path)[0]
    with torch.no_grad():
        assert torch.allclose(reread(lq), module(lq), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace`", "ignore:`torch.jit.save`", "ignore:`torch.jit.load`")
def test_an_exported_torchscript_is_refused_for_what_it_is(weights: Path, tmp_path: Path) -> None:
    module, info = load_generator(weights)
    export(module, info, "torchscript", tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"model\.pt: is a TorchScript program.*name the weights file") as refused:
        load_generator(tmp_path / "model.pt")
    assert "damaged" not in str(refused.value)
    assert "weights_only" not in str(refused.value)


def test_pth_has_basicsrs_layout_and_still_describes_itself(weights: Path, tmp_path: Path) -> None:
    module, info = load_generator(weights)
    export(module, info, "pth", tmp_path / "model.pth")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    assert set(content["params_ema"]) == set(content["params"]) == set(module.state_dict())
    assert all(t.data_ptr() == content["params"][name].data_ptr() for name, t in content["params_ema"].items())
    assert (tmp_path / "model.pth").stat().st_size < 1.5 * weights.stat().st_size + 20_000
    assert load_generator(tmp_path / "model.pth")[1].args == info.args


class _Branching(nn.Module):
    """Does something else at widths that the tracer does not see."""

    scale = 1

    def forward(self, lq: Tensor) -> Tensor:
        return lq if lq.shape[-1] == 32 else 1 - lq


def test_an_export_that_differs_is_thrown_away(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("the one before")
    with pytest.raises(WeightsError, match="differs from its source"):
        export(_Branching(), load_generator(weights)[1], "torchscript", path)
    assert path.read_text() == "the one before"


def test_a_network_that_gives_nan_is_not_exported(weights: Path, tmp_path: Path) -> None:
    module, info = load_generator(weights)
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(WeightsError, match="differs from its source by nan"):
        export(module, info, "pth", tmp_path / "model.pth")
    assert not (tmp_path / "model.pth").exists()


@pytest.mark.parametrize(
    ("to", "name", "message"), [("tflite", "a.tflite", "unknown format"), ("pth", "a.safetensors", "end in .pth")]
)
def test_formats_that_are_refused(weights: Path, tmp_path: Path, to: str, name: str, message: str) -> None:
    module, info = load_generator(weights)
    with pytest.raises(WeightsError, match=message):
        export(module, info, to, tmp_path / name)


def test_onnx_without_its_package_says_what_to_install(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_room.importlib.util, "find_spec", lambda _name: None)
    module, info = load_generator(weights)
    with pytest.raises(WeightsError, match="pip install onnx onnxscript onnxruntime"):
        export(module, info, "onnx", tmp_path / "model.onnx")


@pytest.mark.slow
def test_onnx_takes_any_size(weights: Path, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    runtime = pytest.importorskip("onnxruntime")
    module, info = load_generator(weights)
    assert export(module, info, "onnx", tmp_path / "model.onnx") <= 1e-4
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    lq = torch.rand(3, 3, 5, 11)
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0]), module(lq), atol=1e-4)


def _swin(folder: Path) -> Path:
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    network = SwinIR(upscale=2, window_size=8, depths=[2], embed_dim=12, num_heads=[2], upsampler="pixelshuffledirect")
    torch.save({"params": network.state_dict()}, folder / "swin.pth")
    return folder / "swin.pth"


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:torch.meshgrid")
@pytest.mark.parametrize("to", ["torchscript", "onnx"])
def test_networks_of_windows_take_any_size(tmp_path: Path, to: str) -> None:
    if to == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    module, info = load_generator(_swin(tmp_path))
    path = tmp_path / f"swin{export_room.FORMATS[to]}"
    assert export(module, info, to, path) <= 1e-5
    lq = torch.rand(1, 3, 40, 27)
    if to == "onnx":
        from onnxruntime import InferenceSession

        session = InferenceSession(path, providers=["CPUExecutionProvider"])
        sr = torch.from_numpy(session.run(None, {"lq": lq.numpy()})[0])
    else:
        sr = torch.jit.load(path)(lq)
    with torch.no_grad():
        assert torch.allclose(sr.clamp(0, 1), module(lq), atol=1e-5)


def test_networks_named_on_the_command_line() -> None:
    assert parse_arch("SRResNet") == {"type": "SRResNet"}
    assert parse_arch('{"type": "RDN", "num_feat": 8}') == {"type": "RDN", "num_feat": 8}
    with pytest.raises(WeightsError, match="not JSON"):
        parse_arch('{"type": RDN}')
