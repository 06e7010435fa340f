"""ONNX files in the upscaler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mvmsr.cli import app
from mvmsr.data.image_io import read_rgb, write_rgb
from mvmsr.inference import Upscaler
from mvmsr.inference.onnx_network import OnnxNetwork
from mvmsr.inference.receptive_field import bytes_per_pixel, measure_margins
from mvmsr.inference.restorer import load_restorer
from mvmsr.inference.weights import load_generator
from mvmsr.inference.weights_file import WeightsError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SCALE, KERNEL, CHANNELS = 2, 5, 12
CPU = torch.device("cpu")


def make(path: Path, batch: object = "n", floats: str = "FLOAT") -> np.ndarray:
    """A 5x5 convolution and a pixel shuffle; returns the kernel."""
    helper, types = onnx.helper, onnx.TensorProto
    number = np.float16 if floats == "FLOAT16" else np.float32
    kernel = np.random.default_rng(0).uniform(0, 2 / (3 * KERNEL**2), (CHANNELS, 3, KERNEL, KERNEL)).astype(number)
    nodes = [
        helper.make_node("Conv", ["lq", "kernel"], ["maps"], pads=[2, 2, 2, 2]),
        helper.make_node("DepthToSpace", ["maps"], ["sr"], blocksize=SCALE, mode="CRD"),
    ]
    element = getattr(types, floats)
    given = [helper.make_tensor_value_info("lq", element, [batch, 3, "h", "w"])]
    taken = [helper.make_tensor_value_info("sr", element, [batch, 3, "H", "W"])]
    graph = helper.make_graph(nodes, "g", given, taken, [onnx.numpy_helper.from_array(kernel, "kernel")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return kernel


def expected(lq: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
    maps = torch.nn.functional.conv2d(lq, torch.from_numpy(kernel.astype(np.float32)), padding=2)
    return torch.nn.functional.pixel_shuffle(maps, SCALE)


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_batch_is_enlarged_whether_or_not_the_file_takes_one(batch: object, tmp_path: Path) -> None:
    kernel = make(tmp_path / "net.onnx", batch)
    network = OnnxNetwork(tmp_path / "net.onnx", CPU)
    lq = torch.rand(3, 3, 7, 11)
    torch.testing.assert_close(network(lq), expected(lq, kernel), rtol=0, atol=1e-6)
    assert network.scale == SCALE
    assert network.parameter_count == kernel.size


def test_half_precision_files_take_and_give_float32(tmp_path: Path) -> None:
    kernel = make(tmp_path / "net.onnx", floats="FLOAT16")
    lq = torch.rand(1, 3, 6, 6)
    sr = load_restorer(tmp_path / "net.onnx", "cpu")(lq)
    assert sr.dtype == torch.float32
    torch.testing.assert_close(sr, expected(lq, kernel), rtol=0, atol=4e-3)


def test_its_margins_are_measured_and_its_memory_estimated(tmp_path: Path) -> None:
    make(tmp_path / "net.onnx")
    network = OnnxNetwork(tmp_path / "net.onnx", CPU)
    margins = measure_margins(network, SCALE)
    assert (margins.halo, margins.blend) == (KERNEL // 2, 0)
    # The convolution's 12 values at a pixel of the input; four float32 of each.
    assert bytes_per_pixel(network, SCALE) == 4 * CHANNELS * 4


def test_tiled_equals_untiled(tmp_path: Path) -> None:
    make(tmp_path / "net.onnx")
    picture = np.random.default_rng(1).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    whole = Upscaler(tmp_path / "net.onnx", tile=0).upscale_array(picture)
    tiled = Upscaler(tmp_path / "net.onnx", tile=17).upscale_array(picture)
    assert whole.shape == (122, 166, 3)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_the_command_takes_one(tmp_path: Path) -> None:
    kernel = make(tmp_path / "net.onnx")
    picture = np.random.default_rng(2).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    write_rgb(tmp_path / "in.png", picture)
    model = str(tmp_path / "net.onnx")
    command = ["upscale", str(tmp_path / "in.png"), "--model", model, "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lq = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    sr = (expected(lq, kernel) * 255).round().clamp(0, 255)[0].permute(1, 2, 0).numpy()
    assert np.abs(read_rgb(tmp_path / "out" / "in.png").astype(int) - sr).max() <= 1


def test_another_precision_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="only in 32; use --precision 32"):
        load_restorer(tmp_path / "net.onnx", "cpu", "bf16-mixed")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"net\.onnx: ONNX Runtime cannot read it"):
        load_restorer(tmp_path / "net.onnx", "cpu")


def test_elsewhere_it_is_refused_for_what_it_is(tmp_path: Path) -> None:
    make(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="can be run"):
        load_generator(tmp_path / "net.onnx")
