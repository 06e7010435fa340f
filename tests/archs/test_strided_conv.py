import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvmsr.archs.strided_conv import StridedConv2d, conv_as_product


@pytest.mark.parametrize("size", [(2, 2), (6, 4), (7, 12)])
@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (3, 1, 1), (1, 1, 0), (2, 3, 2)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("compiling", [True, False])
def test_the_product_is_the_convolution_with_its_gradients(
    size, kernel_size, stride, padding, with_bias, compiling, monkeypatch
):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size, dtype=torch.float64)
    weight = torch.randn(7, 5, kernel_size, kernel_size, dtype=torch.float64)
    bias = torch.randn(7, dtype=torch.float64) if with_bias else None
    grad = None
    results = []
    for conv in (conv_as_product, F.conv2d):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias) if t is not None]
        y = conv(*leaves, *([] if with_bias else [None]), stride=stride, padding=padding)
        grad = torch.randn_like(y) if grad is None else grad
        results.append((y, *torch.autograd.grad(y, leaves, grad)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_of_gradients():
    torch.manual_seed(0)
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 2, 4, 5), (3, 2, 3, 3), (3,))
    ]
    assert torch.autograd.gradgradcheck(lambda *t: conv_as_product(*t, stride=2, padding=1), leaves)


@pytest.mark.parametrize("kernel_size", [3, 4])
@pytest.mark.parametrize(("channels", "size"), [(3, (8, 8)), (128, (4, 6)), (128, (5, 6)), (128, (26, 26))])
def test_the_module_is_a_plain_convolution_whichever_way_it_takes(channels, size, kernel_size):
    ours = StridedConv2d(channels, 4, kernel_size)
    theirs = nn.Conv2d(channels, 4, kernel_size, stride=2, padding=1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
