from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from mvmsr.metrics import StLpips, build_metric, build_metrics, make_protocol
from mvmsr.metrics.lpips_metric import to_signed
from mvmsr.metrics.st_lpips_network import Blur, ConvBlur, Largest, ShiftTolerantNetwork
from mvmsr.pretrained import FILES, MissingWeights, locate

PROTOCOL = make_protocol("y", 4)


def pictures(height: int = 61, width: int = 77) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and other noise: what generator 0 draws first."""
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    return first, second


@pytest.fixture(scope="module")
def alex() -> StLpips:
    return needed("alex")


def needed(net: str) -> StLpips:
    try:
        return StLpips(net, device="cpu")
    except MissingWeights as error:
        pytest.skip(error.in_short)


@pytest.mark.parametrize(("net", "expected"), [("alex", 0.041592393), ("vgg", 0.071792163)])
def test_golden_values_of_the_authors_package(net: str, expected: float) -> None:
    metric = needed(net)
    assert metric(*pictures(), PROTOCOL) == pytest.approx(expected, rel=1e-5)
    assert metric.name == {"alex": "st_lpips", "vgg": "st_lpips_vgg"}[net]


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_package(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = needed(net)
    if importlib.util.find_spec("stlpips_pytorch") is None:
        pytest.skip("stlpips-pytorch is not installed")
    for name in ("IPython", "torchsummary"):  # the package imports both at its top and does not need them
        stub = types.ModuleType(name)
        stub.embed = stub.summary = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, stub)
    package = importlib.import_module("stlpips_pytorch.stlpips")
    theirs = package.LPIPS(net=net, variant="shift_tolerant", verbose=False)
    for size in ((61, 77), (40, 22), (21, 40)):
        sr, gt = pictures(*size)
        with torch.no_grad():
            expected = float(theirs(to_signed(sr), to_signed(gt)))
        assert ours(sr, gt, PROTOCOL) == pytest.approx(expected, rel=5e-6)


def test_a_shift_costs_little(alex: StLpips) -> None:
    y, x = np.mgrid[:64, :97]
    waves = 128 + 60 * np.sin(x / 2.5) * np.cos(y / 3.5)
    picture = np.repeat(waves.round().astype(np.uint8)[..., None], 3, axis=2)
    noise = np.random.default_rng(0).integers(-30, 31, picture.shape)
    noisy = np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)
    moved = alex(np.ascontiguousarray(picture[:, 1:]), np.ascontiguousarray(picture[:, :-1]), PROTOCOL)
    assert 0 < moved < 0.3 * alex(noisy, picture, PROTOCOL)


def test_equal_pictures_symmetry_and_small_pictures(alex: StLpips) -> None:
    sr, gt = pictures(21, 40)
    assert alex(gt, gt, PROTOCOL) == 0
    assert alex(sr, gt, PROTOCOL) == pytest.approx(alex(gt, sr, PROTOCOL), rel=1e-6)
    assert "needs 21 px" in alex.limitation(20, 40, PROTOCOL)
    assert math.isnan(alex(sr[:20], gt[:20], PROTOCOL))
    with pytest.raises(ValueError, match="none was given"):
        alex(sr, None, PROTOCOL)


@pytest.mark.parametrize(("net", "side"), [("alex", 21), ("vgg", 18)])
def test_the_smallest_side_is_the_smallest(net: str, side: int) -> None:
    network = ShiftTolerantNetwork(net).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, side, side), torch.rand(1, 3, side, side)).shape == (1, 1, 1, 1)
        with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
            network(torch.rand(1, 3, side - 1, side), torch.rand(1, 3, side - 1, side))


def test_blur_by_hand() -> None:
    x = torch.tensor([[[[0.0, 4, 8, 0]]]]).expand(1, 2, 4, 4)
    # Mirrored: 8 4 | 0 4 8 0 | 8 4; every second of the sums [1, 2, 1] / 4 of three neighbours.
    expected = torch.tensor([(8 + 8 + 0) / 4, (0 + 8 + 8) / 4, (8 + 0 + 8) / 4]).expand(1, 2, 3, 3)
    torch.testing.assert_close(Blur(2)(x), expected)


@pytest.mark.parametrize("size", [(13, 9), (14, 10), (9, 22), (10, 21)])
def test_blurring_before_the_convolution_equals_blurring_after_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 5, 7, padding=1), Blur(5), torch.nn.ReLU()]
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ConvBlur(*layers)(x), torch.nn.Sequential(*layers)(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [2, 3])
def test_the_largest_by_rows_and_columns(side: int) -> None:
    x = torch.randn(2, 3, 7, 9)
    assert torch.equal(Largest(side)(x), torch.nn.functional.max_pool2d(x, side, stride=1))


def test_without_weights_one_line_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "stlpips_pytorch" else find_spec(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)
    metrics, missing = build_metrics(["st_lpips", "psnr", "st_lpips_vgg"], device="cpu")
    assert list(metrics) == ["psnr"]
    assert [entry.metric for entry in missing] == ["st_lpips", "st_lpips_vgg"]
    assert missing[0].why == ("alex_shift_tolerant.pth is not on this machine; `pip install stlpips_pytorch` mends it")


def test_a_folder_of_weights_comes_first_and_is_checked(tmp_path: Path) -> None:
    filename = FILES["st_lpips_alex"].filename
    torch.save(ShiftTolerantNetwork("alex").state_dict(), tmp_path / filename)
    assert locate("st_lpips_alex", weights_dir=tmp_path) == tmp_path / filename
    torch.save(ShiftTolerantNetwork("vgg").state_dict(), tmp_path / filename)
    with pytest.raises(ValueError, match=r"not the weights of ST-LPIPS \(alex\)"):
        build_metric("st_lpips", device="cpu", weights_dir=tmp_path)
    with pytest.raises(ValueError, match="use one of alex, vgg"):
        StLpips("squeeze")  # type: ignore[arg-type]
