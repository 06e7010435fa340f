"""Float32 that is not TF32, where it is promised. The switches are a GPU's; they can be read without one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvmsr.archs import NMD
from mvmsr.hardware import full_float32
from mvmsr.inference import Restorer, Upscaler
from mvmsr.metrics import build_metric, make_protocol
from mvmsr.metrics.lpips_metric import LpipsDistance
from mvmsr.metrics.pyiqa_metric import Pyiqa

Switches = tuple[bool, str]


def _switches() -> Switches:
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def _as_training_sets_them() -> Iterator[None]:
    before = _switches()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


class _Watching(nn.Module):
    """The input itself, and a note of the switches at that time."""

    scale = 1

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Switches] = []

    def forward(self, lq: Tensor) -> Tensor:
        self.seen.append(_switches())
        if lq.mean() > 0.9:
            raise RuntimeError("too bright")
        return lq


class _Noting(nn.Module):
    """The score 0.5 of any two pictures, and a note of the switches at that time."""

    def __init__(self, seen: list[Switches]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        self.seen.append(_switches())
        return torch.tensor(0.5)


def test_set_inside_and_restored_outside() -> None:
    with full_float32():
        assert _switches() == (False, "highest")
        with full_float32():
            assert _switches() == (False, "highest")
        assert _switches() == (False, "highest")
    assert _switches() == (True, "high")


def test_the_last_of_several_threads_restores() -> None:
    first, last = full_float32(), full_float32()
    first.__enter__()
    with ThreadPoolExecutor(1) as other_thread:
        other_thread.submit(last.__enter__).result()
        first.__exit__(None, None, None)
        assert _switches() == (False, "highest")
        other_thread.submit(last.__exit__, None, None, None).result()
    assert _switches() == (True, "high")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_restored_after_an_exception(error: type[BaseException]) -> None:
    with pytest.raises(error), full_float32():
        raise error
    assert _switches() == (True, "high")


def test_left_alone_where_it_is_not_wanted() -> None:
    with full_float32(wanted=False):
        assert _switches() == (True, "high")


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this PyTorch has no switches of operations")
def test_a_program_that_switches_single_operations() -> None:
    convolution, product = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolution.fp32_precision
    product.fp32_precision, convolution.fp32_precision = "ieee", "tf32"
    try:
        with full_float32():
            assert (convolution.fp32_precision, product.fp32_precision) == ("ieee", "ieee")
        assert (convolution.fp32_precision, product.fp32_precision) == ("tf32", "ieee")
    finally:
        convolution.fp32_precision = before
        torch.set_float32_matmul_precision("high")


def test_precision_32_of_a_restorer() -> None:
    network = _Watching()
    Restorer(network, 1, "cpu", "32")(torch.full((1, 3, 4, 4), 0.5))
    Restorer(network, 1, "cpu", "bf16-mixed")(torch.full((1, 3, 4, 4), 0.5))
    assert network.seen == [(False, "highest"), (True, "high")]
    with pytest.raises(RuntimeError, match="too bright"):
        Restorer(network, 1, "cpu", "32")(torch.ones(1, 3, 4, 4))
    assert _switches() == (True, "high")


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint16, (False, "highest")), (np.uint8, (True, "high"))])
def test_16_bits_are_always_computed_in_it(dtype: type, expected: Switches) -> None:
    network = _Watching()
    upscaler = Upscaler(Restorer(network, 1, "cpu", "bf16-mixed"), tile=0)
    upscaler.upscale_array(np.full((8, 8, 3), 99, dtype))
    assert network.seen == [expected]


def test_the_naturalness_discriminator() -> None:
    network = NMD(num_feat=2)
    seen: list[Switches] = []
    network.features.register_forward_hook(lambda *_: seen.append(_switches()))
    network(torch.rand(1, 3, 16, 16)).sum().backward()
    assert seen == [(False, "highest")]
    assert _switches() == (True, "high")


class _WatchedDistance(LpipsDistance):
    """LPIPS with another network."""

    name, net, title, smallest_side = "watched", "none", "Watched", {"none": 1}

    def __init__(self, network: nn.Module) -> None:
        self.device, self.network = torch.device("cpu"), network


def test_lpips_and_its_like() -> None:
    seen: list[Switches] = []
    metric = _WatchedDistance(_Noting(seen))
    picture = np.zeros((8, 8, 3), np.uint8)
    assert metric(picture, picture, make_protocol("y", 4)) == 0.5
    assert seen == [(False, "highest")]
    assert _switches() == (True, "high")


def test_metrics_of_pyiqa() -> None:
    pytest.importorskip("pyiqa")
    seen: list[Switches] = []
    metric = build_metric("pyiqa:psnr", device="cpu")
    assert isinstance(metric, Pyiqa)
    metric.network = _Noting(seen)
    picture = np.zeros((8, 8, 3), np.uint8)
    assert metric(picture, picture, make_protocol("y", 4)) == 0.5
    assert seen == [(False, "highest")]
    assert _switches() == (True, "high")
