from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvmsr.benchmark.cost import MemoryMeter, Size, cost_of, size_of, warm_up
from mvmsr.benchmark.cost_table import cost_markdown, cost_table
from mvmsr.benchmark.methods import Bicubic

MIB = 1 << 20
METERED = Path("/proc/self/clear_refs").exists()


class Holder:
    """A method around a network, as `Restorer` is."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


def test_size_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.PixelShuffle(4))
    network.register_buffer("table", torch.zeros(1000))
    size = size_of(Holder(network), 4)
    parameters = 48 * 3 * 9 + 48
    assert size == Size(parameters, 48 * 3 * 9 * 180 * 320, (parameters + 1000) * 4 / MIB)
    assert size_of(Holder(network), 2).multiply_adds == 48 * 3 * 9 * 360 * 640


def test_methods_without_a_network_have_no_size() -> None:
    assert size_of(Bicubic(4), 4) == Size(None, None, None)


def test_work_that_cannot_be_counted_leaves_the_rest() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5))

        def forward(self, lq: Tensor) -> Tensor:
            return lq * float(lq.mean())

    assert size_of(Holder(Odd()), 4) == Size(5, None, 20 / MIB)


@pytest.mark.skipif(not METERED, reason="the kernel's high-water mark cannot be reset here")
def test_memory_that_is_taken_and_given_back_is_seen() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    held = torch.ones(16 * MIB // 4)  # before the call: not its own
    peak = meter.begin(100)
    assert peak is not None
    taken = torch.ones(64 * MIB // 4)
    del taken
    kept = torch.ones(24 * MIB // 4)
    assert peak() == pytest.approx(64, abs=6)
    del kept, held


def test_smaller_pictures_are_not_measured_again() -> None:
    meter = MemoryMeter(torch.device("cpu"), largest=100)
    assert meter.begin(100) is None
    assert (meter.begin(101) is not None) == METERED
    assert meter.begin(101) is None or not METERED


def test_cost_by_hand() -> None:
    size = Size(10, 20, 3.0)
    cost = cost_of(size, [(1.0, 500_000, 40.0), (3.0, 1_500_000, None), (None, 9, 50.0)])
    expected = {"parameters": 10, "multiply_adds_720p": 20, "seconds_per_megapixel": 2.0, "peak_mib": 53.0}
    assert cost == expected
    assert cost_of(Size(), [(None, None, None)]) == dict.fromkeys(expected)


def test_a_failing_warm_up_is_no_failure_and_mistakes_are() -> None:
    def picky(lq: Tensor) -> Tensor:
        raise RuntimeError("too small")

    warm_up(picky)
    with pytest.raises(TypeError):
        warm_up(lambda: None)  # type: ignore[arg-type, misc]


def test_table() -> None:
    cost = {"parameters": 1_517_571, "multiply_adds_720p": 146_000_000_000, "seconds_per_megapixel": 0.12345}
    results = {
        "methods": [
            {"name": "bicubic", "cost": {"parameters": None, "seconds_per_megapixel": 0.05, "peak_mib": None}},
            {"name": "a|b", "cost": {**cost, "peak_mib": 1234.5}},
            {"name": "old"},
        ],
        "machine": {"device": "cpu", "threads": 4},
    }
    lines = cost_markdown(results).splitlines()
    assert lines[0].startswith("Cost on cpu (4 threads). ")
    assert lines[4:] == [
        "| bicubic | - | - | 0.05 | - |",
        r"| a\|b | 1,517,571 | 146.0 G | 0.123 | 1,234 |",
        "| old | - | - | - | - |",
    ]
    table = cost_table(results)
    assert table is not None
    assert table.row_count == 3


def test_no_table_for_bicubic_alone() -> None:
    results = {"methods": [{"name": "bicubic", "cost": {"seconds_per_megapixel": 0.05}}], "machine": {"device": "cpu"}}
    assert (cost_table(results), cost_markdown(results)) == (None, "")
