from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mvmsr.benchmark.methods import MethodError, parse_method
from mvmsr.benchmark.plan import Plan
from mvmsr.benchmark.run import run_benchmark
from mvmsr.data.image_io import write_rgb
from mvmsr.inference.weights import BUILTIN_DIR


def test_without_the_runtime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_bytes(b"x")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    write_rgb(tmp_path / "A" / "p.png", np.zeros((32, 32, 3), np.uint8))
    plan = Plan(methods=("bicubic", f"onnx:{tmp_path / 'net.onnx'}"), sets=(str(tmp_path / "A"),), device="cpu")
    results = run_benchmark(plan)
    assert [row["method"] for row in results["means"]] == ["bicubic"]
    assert "pip install onnxruntime" in results["failures"][0]["why"]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(MethodError, match=r"there is no file nowhere\.onnx"):
        parse_method("onnx:nowhere.onnx", 4)


def test_a_file_of_another_format() -> None:
    with pytest.raises(
        MethodError, match=r"psnr\.safetensors does not end in \.onnx; name other weights without `onnx:`"
    ):
        parse_method(f"onnx:{BUILTIN_DIR / 'psnr.safetensors'}", 4)


def make(
    path: Path,
    *,
    scale: int = 4,
    sides: tuple[object, object] = ("h", "w"),
    batch: object = 1,
    channels: int = 3,
    kind: str = "FLOAT",
    gain: float = 1.0,
    inputs: int = 1,
) -> Path:
    """Nearest-neighbour upscaling, times a weight."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    helper, types = onnx.helper, onnx.TensorProto
    element = getattr(types, kind)
    number = np.float16 if kind == "FLOAT16" else np.float32
    initializers = [
        onnx.numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales"),
        onnx.numpy_helper.from_array(np.full((1, channels, 1, 1), gain, number), "gain"),
    ]
    nodes = [
        helper.make_node("Resize", ["lq", "", "scales"], ["large"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        helper.make_node("Mul", ["large", "gain"], ["sr"]),
    ]  # fmt: skip
    given = [helper.make_tensor_value_info("lq", element, [batch, channels, *sides])]
    given += [helper.make_tensor_value_info(f"extra{n}", element, [1]) for n in range(inputs - 1)]
    taken = [helper.make_tensor_value_info("sr", element, None)]
    graph = helper.make_graph(nodes, "g", given, taken, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16"])
def test_a_file_is_a_method_like_any_other(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path / "nearest.onnx", kind=kind)
    gt = np.random.default_rng(0).integers(0, 256, (36, 44, 3), dtype=np.uint8)
    write_rgb(tmp_path / "A" / "p.png", gt)
    plan = Plan(
        methods=(f"onnx:{path}", f"N={path}"), sets=(str(tmp_path / "A"),), device="cpu", out=str(tmp_path / "out"),
        save_images=True,
    )  # fmt: skip
    results = run_benchmark(plan)
    assert results["failures"] == []
    assert [row["method"] for row in results["means"]] == ["nearest", "N"]
    from mvmsr.data.image_io import read_rgb
    from mvmsr.data.imresize import imresize

    nearest = imresize(gt, scale=0.25).repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(read_rgb(tmp_path / "out/images/nearest/A/p.png"), nearest)
    cost = results["methods"][0]["cost"]
    assert cost["parameters"] == 3 + 4
    assert cost["multiply_adds_720p"] is None
    assert cost["seconds_per_megapixel"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 2}, "magnifies x2, the benchmark is x4; set scale: 2"),
        ({"sides": (64, 48)}, "takes images of 48x64 alone"),
        ({"sides": ("h", 48)}, "takes images of 48xh alone"),
        ({"channels": 1}, "expected RGB images"),
        ({"batch": 2}, "takes 2 images at once"),
        ({"kind": "DOUBLE"}, "takes tensor.double.; expected tensor.float."),
        ({"gain": 255.0}, "levels of 255"),
        ({"inputs": 2}, "takes 2 inputs .lq, extra0."),
    ],
)
def test_refusals(changes: dict, message: str, tmp_path: Path) -> None:
    if changes.get("kind") == "DOUBLE":
        pytest.importorskip("onnx", reason="onnx is not installed")
        changes = {**changes, "kind": "FLOAT"}
        path = make(tmp_path / "net.onnx", **changes)
        import onnx

        model = onnx.load(str(path))
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        model.graph.node[0].input[0] = "cast"
        model.graph.node.insert(0, onnx.helper.make_node("Cast", ["lq"], ["cast"], to=onnx.TensorProto.FLOAT))
        onnx.save(model, str(path))
    else:
        path = make(tmp_path / "net.onnx", **changes)
    with pytest.raises(MethodError, match=message):
        parse_method(f"onnx:{path}", 4, "cpu").open()


def test_something_else_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    with pytest.raises(MethodError, match="ONNX Runtime cannot read it"):
        parse_method(str(tmp_path / "net.onnx"), 4, "cpu").open()


def test_our_own_export_scores_as_its_source(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from mvmsr.archs import SRResNet
    from mvmsr.inference.export import export
    from mvmsr.inference.weights import load_generator, save_weights

    torch.manual_seed(0)
    arguments = {"num_feat": 4, "num_block": 1, "upscale": 4}
    path = tmp_path / "w.safetensors"
    save_weights(path, SRResNet(**arguments).state_dict(), "SRResNet", arguments, 4)
    module, info = load_generator(path)
    export(module, info, "onnx", tmp_path / "w.onnx")
    lq = torch.rand(1, 3, 9, 7)
    ours = parse_method(str(path), 4, "cpu", "32").open()(lq)
    theirs = parse_method(f"onnx:{tmp_path / 'w.onnx'}", 4, "cpu").open()(lq)
    torch.testing.assert_close(theirs.clamp(0, 1), ours, atol=1e-5, rtol=0)
