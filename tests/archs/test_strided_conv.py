import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvmsr.archs.strided_conv import StridedConv2d, strided_conv_as_product


@pytest.mark.parametrize("size", [(2, 2), (6, 4), (8, 12)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_product_is_the_convolution_with_its_gradients(size, with_bias):
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size, dtype=torch.float64)
    weight = torch.randn(7, 5, 4, 4, dtype=torch.float64)
    bias = torch.randn(7, dtype=torch.float64) if with_bias else None
    grad = None
    results = []
    for conv in (strided_conv_as_product, lambda *a: F.conv2d(*a, stride=2, padding=1)):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias) if t is not None]
        y = conv(*leaves, *([] if with_bias else [None]))
        grad = torch.randn_like(y) if grad is None else grad
        results.append((y, *torch.autograd.grad(y, leaves, grad)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "size"), [(3, (8, 8)), (128, (4, 6)), (128, (5, 6)), (128, (26, 26))])
def test_the_module_is_a_plain_convolution_whichever_way_it_takes(channels, size):
    ours = StridedConv2d(channels, 4)
    theirs = nn.Conv2d(channels, 4, 4, stride=2, padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
