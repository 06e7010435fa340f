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


@pytest.mark.parametrize("compiling", [True, False])
@pytest.mark.parametrize("kernel_size", [3, 4])
@pytest.mark.parametrize(
    ("channels", "size"),
    [(3, (8, 8)), (1, (2, 6)), (3, (5, 6)), (3, (6, 5)), (128, (4, 6)), (128, (5, 6)), (128, (26, 26))],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_module_is_a_plain_convolution_whichever_way_it_takes(
    channels, size, kernel_size, with_bias, compiling, monkeypatch
):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    torch.manual_seed(0)
    ours = StridedConv2d(channels, 4, kernel_size, bias=with_bias).double()
    theirs = nn.Conv2d(channels, 4, kernel_size, stride=2, padding=1, bias=with_bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(theirs(x))
    results = [(conv(x), *torch.autograd.grad(conv(x), [x, *conv.parameters()], grad)) for conv in (ours, theirs)]
    for our, their in zip(*results, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_picture_is_taken_by_cells_where_a_compiler_is_at_work(monkeypatch):
    conv, x = StridedConv2d(3, 4, 4), torch.randn(1, 3, 8, 8, requires_grad=True)
    assert "_ByCells" not in _graph(conv(x))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert "_ByCells" in _graph(conv(x))


def _graph(y):
    """Names of the functions that made the tensor."""
    names, functions = [], [y.grad_fn]
    while functions:
        function = functions.pop()
        names.append(type(function).__name__)
        functions += [source for source, _ in function.next_functions if source is not None]
    return " ".join(names)


def test_gradients_of_the_gradients_by_cells(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.manual_seed(0)
    conv = StridedConv2d(2, 3, 4).double()
    leaves = [torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True), *conv.parameters()]
    names = [name for name, _ in conv.named_parameters()]

    def convolve(x, *values):
        return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradgradcheck(convolve, leaves)
