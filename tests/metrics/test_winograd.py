from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mvmsr.metrics import winograd
from mvmsr.metrics.winograd import WinogradConv2d, transform_weight, winograd_conv2d


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 8), (9, 5), (22, 31)])
@pytest.mark.parametrize("at_once", [1, 1 << 19])
def test_equals_the_convolution(size: tuple[int, int], at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_AT_ONCE", at_once)  # one row of tiles at a time, or all
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 7, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, generator=generator, dtype=torch.float64)
    expected = F.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(winograd_conv2d(x, transform_weight(weight), bias), expected, rtol=1e-12, atol=1e-12)
    without = winograd_conv2d(x, transform_weight(weight))
    torch.testing.assert_close(without, F.conv2d(x, weight, padding=1), rtol=1e-12, atol=1e-12)


def test_the_layer_is_conv2d_and_follows_its_weights() -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(6, 4)
    x = torch.randn(1, 6, 11, 10)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1), rtol=1e-4, atol=1e-4)
            layer.load_state_dict({"weight": torch.randn(4, 6, 3, 3), "bias": torch.randn(4)})
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    for _ in range(2):  # with gradients it is PyTorch's own, and keeps no graph
        assert torch.equal(layer(x), expected)
        layer(x).sum().backward()
    assert set(layer.state_dict()) == {"weight", "bias"}
