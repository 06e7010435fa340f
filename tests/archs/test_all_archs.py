"""What holds for every registered network; a new one must be given its arguments in tiny_archs.py."""

from __future__ import annotations

import copy
import inspect

import pytest
import tiny_archs
import torch
from tiny_archs import DISCRIMINATORS, METRIC_NETS
from torch import nn

from mvmsr.archs import SRResNet
from mvmsr.registry import ARCHS

GENERATORS = {**tiny_archs.GENERATORS, "spandrel": {}}  # its `path` is filled in by `build`
ALL = {**GENERATORS, **DISCRIMINATORS, **METRIC_NETS}


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> str:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "compact.pth"
    torch.save({"params": _compact_network().state_dict()}, path)
    return str(path)


@pytest.fixture
def build(weights_file):
    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        arguments = {"path": weights_file} if name == "spandrel" else ALL[name]
        return ARCHS.get(name)(**arguments)

    return make


def _compact_network(num_feat: int = 8, scale: int = 4) -> nn.Module:
    """A Real-ESRGAN compact network's parameters, by the names that its files use."""
    network = nn.Module()
    network.body = nn.Sequential(
        nn.Conv2d(3, num_feat, 3, padding=1),
        nn.PReLU(num_feat),
        nn.Conv2d(num_feat, num_feat, 3, padding=1),
        nn.PReLU(num_feat),
        nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1),
    )
    return network


def test_every_registered_network_is_tested_here():
    assert set(ARCHS.names()) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_argument_is_named_and_has_a_type(name):
    parameters = inspect.signature(ARCHS.get(name)).parameters.values()
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD and p.annotation is not p.empty for p in parameters)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_generators_enlarge_by_their_scale(build, name, size):
    generator = build(name)
    assert type(generator.scale) is int
    sr = generator(torch.rand(2, 3, *size))
    assert sr.shape == (2, 3, size[0] * generator.scale, size[1] * generator.scale)
    assert sr.dtype == torch.float32


@pytest.mark.parametrize("name", tiny_archs.GENERATORS)
@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_generators_are_built_for_other_scales(name, upscale):
    generator = ARCHS.get(name)(**tiny_archs.GENERATORS[name], upscale=upscale)
    assert generator.scale == upscale
    assert generator(torch.rand(1, 3, 5, 6)).shape == (1, 3, 5 * upscale, 6 * upscale)


@pytest.mark.parametrize("name", tiny_archs.GENERATORS)
def test_a_scale_is_kept_or_refused(name):
    generator, refusal = None, ""
    try:
        generator = ARCHS.get(name)(**tiny_archs.GENERATORS[name], upscale=5)
    except ValueError as error:
        refusal = str(error)
    assert "5" in refusal if generator is None else generator(torch.rand(1, 3, 5, 6)).shape == (1, 3, 25, 30)


@pytest.mark.parametrize("name", [*DISCRIMINATORS, *METRIC_NETS])
@pytest.mark.parametrize("size", [(64, 64), (45, 37)])
def test_judges_give_one_row_an_image(build, name, size):
    output = build(name)(torch.rand(3, 3, *size))
    assert output.shape == (3, METRIC_NETS[name]["embedding_dim"] if name in METRIC_NETS else 1)
    assert output.isfinite().all()
    assert output.std(0).min() > 0, "images are told apart"


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_and_the_input_get_a_gradient(build, name):
    network = build(name)
    image = torch.rand(3, 3, 9, 7) if name in GENERATORS else torch.rand(3, 3, 64, 64)
    output = network(image.requires_grad_())
    (output * torch.randn_like(output)).sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # A bias before batch normalisation moves nothing: its gradient is zero but for rounding.
        assert parameter.grad.abs().max() > 0, parameter_name
    assert image.grad.abs().max() > 0


@pytest.mark.parametrize("name", ALL)
def test_saved_weights_give_the_same_outputs(build, name, tmp_path):
    network = build(name)
    image = torch.rand(2, 3, 9, 7) if name in GENERATORS else torch.rand(2, 3, 64, 64)
    network(image)  # moves running statistics off their start
    torch.save(network.eval().state_dict(), tmp_path / "weights.pth")
    with torch.no_grad():
        expected = network(image)
        other = build(name).eval()
        for parameter in other.parameters():
            parameter.add_(0.1)
        assert not torch.equal(other(image), expected)
        other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
        assert torch.equal(other(image), expected)


@pytest.mark.parametrize("name", ALL)
def test_copies_are_independent(build, name):
    network = build(name).eval()
    image = torch.rand(2, 3, 9, 7) if name in GENERATORS else torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        twin = copy.deepcopy(network)
        assert torch.equal(twin(image), expected)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(network(image), expected)


@pytest.mark.parametrize("name", ALL)
def test_double_precision_agrees_with_single(build, name):
    network = build(name).eval()
    image = torch.rand(2, 3, 9, 7) if name in GENERATORS else torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        single = network(image)
        double = network.double()(image.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_in_channels_last_stays_close(build, name):
    network = build(name).to(memory_format=torch.channels_last).eval()
    image = torch.rand(2, 3, 9, 7) if name in GENERATORS else torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = network(image.to(memory_format=torch.channels_last))
    assert (mixed.float() - expected).abs().max() < 0.05 * max(1.0, expected.abs().max().item())


def test_the_output_is_linear_not_clamped():
    torch.manual_seed(0)
    generator = SRResNet(num_feat=4, num_block=1)
    nn.init.constant_(generator.conv_last.bias, 3.0)
    assert generator(torch.rand(1, 3, 4, 4)).max() > 1.5
