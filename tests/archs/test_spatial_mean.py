"""The mean over space: its value, and the layout of its gradient."""

from __future__ import annotations

import pytest
import torch

from mvmsr.archs.spatial_mean import SpatialMean, spatial_mean


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient(layout: torch.memory_format) -> None:
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    found = SpatialMean()(maps)
    torch.testing.assert_close(found, maps.mean((2, 3)))
    weights = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    (found * weights).sum().backward()
    torch.testing.assert_close(maps.grad, (weights / 20)[..., None, None].expand(2, 3, 4, 5))


def test_the_gradient_has_the_channels_last() -> None:
    seen = []
    maps = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    inner = maps * 1
    inner.register_hook(lambda grad: seen.append(grad.is_contiguous(memory_format=torch.channels_last)))
    spatial_mean(inner).sum().backward()
    assert seen == [True]
