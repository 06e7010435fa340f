"""Discriminators, NMD and the metric network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvmsr.archs import NMD, MetricNet, NatSRDiscriminator, SRGANDiscriminator, count_parameters
from mvmsr.archs.strided_conv import StridedConv2d
from mvmsr.registry import ARCHS, RegistryError

PAPER = {"norm": "none", "pool": "max", "input_range": "zero_one", "init": "default"}


@pytest.mark.parametrize(
    ("network", "arguments", "parameters"),
    [
        (SRGANDiscriminator, {}, 5_215_425),
        (NMD, {}, 4_689_985),
        (MetricNet, {**PAPER, "input_size": 192}, 2_935_296),
        (MetricNet, PAPER, 2_804_224),
        (MetricNet, {**PAPER, "input_size": 64, "embedding_dim": 10}, 2_792_938),
        (MetricNet, {"norm": "batch"}, 2_804_224 + 64 + 128 + 256 + 512),  # scale and offset, less the bias
    ],
)
def test_published_parameter_counts(network, arguments, parameters):
    with torch.device("meta"):
        assert count_parameters(network(**arguments)) == parameters


@pytest.fixture(scope="module")
def natsr() -> NatSRDiscriminator:
    torch.manual_seed(0)
    return NatSRDiscriminator()


def test_natsr_discriminators_size(natsr):
    assert count_parameters(natsr) == 18_852_417


def test_natsr_convolutions_have_spectral_norm_one():
    torch.manual_seed(0)
    net = NatSRDiscriminator(num_feat=4)
    for _ in range(30):  # one power iteration each
        net(torch.rand(1, 3, 32, 32))
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 11
    for conv in convs:
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_natsr_does_one_power_iteration_in_training_and_none_in_evaluation():
    torch.manual_seed(0)
    net = NatSRDiscriminator(num_feat=4)
    norm = net.features[0].parametrizations.weight[0]
    assert norm.n_power_iterations == 1
    before = norm._u.clone()
    net.eval()(torch.rand(1, 3, 32, 32))
    assert torch.equal(norm._u, before)
    net.train()(torch.rand(1, 3, 32, 32))
    matrix = net.features[0].parametrizations.weight.original.flatten(1)
    # One iteration from `before`: v = W'u, u = Wv, normalised.
    expected = F.normalize(matrix @ F.normalize(matrix.T @ before, dim=0), dim=0)
    torch.testing.assert_close(norm._u, expected)


def test_an_evenly_coloured_image_has_the_same_logit_at_any_size():
    torch.manual_seed(0)
    net = NMD(num_feat=2).eval()
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        centre = conv.weight.data[..., 1:2, 1:2].clone()
        conv.weight.data.zero_()[..., 1:2, 1:2] = centre  # no border effects
    small, large = (net(torch.full((1, 3, size, size), 0.3)) for size in (16, 48))
    torch.testing.assert_close(small, large)


def test_srgan_discriminator_is_its_features_mean_under_the_head():
    torch.manual_seed(0)
    net = SRGANDiscriminator(num_feat=2).double().eval()
    image = torch.rand(2, 3, 33, 20, dtype=torch.float64)
    pooled = F.adaptive_avg_pool2d(net.features(image), 1)[..., 0, 0]
    hidden = pooled @ net.head[0].weight.T + net.head[0].bias
    expected = torch.where(hidden > 0, hidden, 0.2 * hidden) @ net.head[2].weight.T + net.head[2].bias
    torch.testing.assert_close(net(image), expected)
    assert net.features(image).shape[-2:] == (3, 2)  # halved four times, rounded up


def _leaky(x):
    return torch.where(x > 0, x, 0.2 * x)


def test_srgan_discriminators_features_are_the_papers():
    torch.manual_seed(0)
    net = SRGANDiscriminator(num_feat=2).double().train()
    layers = [m for m in net.features if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    for norm in layers[2::2]:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
    image = torch.rand(3, 3, 20, 17, dtype=torch.float64)
    x = _leaky(F.conv2d(image, layers[0].weight, layers[0].bias, padding=1))
    for conv, norm, stride in zip(layers[1::2], layers[2::2], (2, 1, 2, 1, 2, 1, 2), strict=True):
        x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
        x = _leaky(F.batch_norm(x, None, None, norm.weight, norm.bias, training=True))
    torch.testing.assert_close(net.features(image), x)


def test_natsr_discriminators_map_is_averaged():
    torch.manual_seed(0)
    net = NatSRDiscriminator(num_feat=2).double().eval()
    image = torch.rand(2, 3, 48, 33, dtype=torch.float64)
    *convs, last = (m for m in net.features if isinstance(m, nn.Conv2d))
    x = image
    for conv, stride in zip(convs, (1, 2) * 5, strict=True):
        x = _leaky(F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1))
    expected = F.conv2d(x, last.weight, last.bias, padding=1).mean((2, 3))
    torch.testing.assert_close(net(image), expected)


def test_nmd_is_natsrs_formula():
    torch.manual_seed(0)
    net = NMD(num_feat=2).double()
    image = torch.rand(2, 3, 37, 33, dtype=torch.float64)
    *convs, last = (m for m in net.features if isinstance(m, nn.Conv2d))
    x = image
    for number, conv in enumerate(convs):
        x = F.conv2d(x, conv.weight, conv.bias, padding=1).clamp(min=0)
        if number % 2:
            x = F.max_pool2d(x, 2)
    expected = F.conv2d(x, last.weight, last.bias, padding=1).mean((2, 3))
    torch.testing.assert_close(net(image), expected)


def test_nmd_starts_from_hes_and_glorots_weights():
    torch.manual_seed(0)
    *convs, last = (m for m in NMD().features if isinstance(m, nn.Conv2d))
    assert convs[5].weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert last.weight.std().item() == pytest.approx((2 / (513 * 9)) ** 0.5, rel=0.03)
    assert last.weight.abs().max() <= (6 / (513 * 9)) ** 0.5
    assert all(conv.bias.abs().max() == 0 for conv in (*convs, last))


def test_basicsrs_vgg_discriminator_comes_by_its_name():
    try:
        network = ARCHS.get("VGGStyleDiscriminator")
    except RegistryError:
        pytest.skip("BasicSR is not installed")
    with torch.device("meta"):
        net = network(num_in_ch=3, num_feat=64)
    assert count_parameters(net) == 14_499_401
    assert network(num_in_ch=3, num_feat=2)(torch.rand(2, 3, 128, 128)).shape == (2, 1)


def test_the_papers_metric_network_is_its_plain_formula():
    torch.manual_seed(0)
    net = MetricNet(embedding_dim=5, num_feat=2, input_size=96, **PAPER).double()
    images = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    x = images
    for conv in (m for m in net.features if isinstance(m, nn.Conv2d)):
        x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
    assert x.shape == (2, 32, 3, 3)
    x = x[..., :2, :2].amax((2, 3))  # 2x2 maxima of 3x3: one, the border is dropped
    torch.testing.assert_close(net(images), x @ net.embed.weight.T + net.embed.bias)


def test_the_default_metric_network_is_its_formula_and_remembers_slowly():
    torch.manual_seed(0)
    net = MetricNet(embedding_dim=5, num_feat=2, num_layer=3).double()
    images = torch.rand(4, 3, 24, 32, dtype=torch.float64)
    convs = [m for m in net.features if isinstance(m, nn.Conv2d)]
    assert [conv.bias is None for conv in convs] == [False, True, True]
    x = 2 * images - 1
    for number, conv in enumerate(convs):
        x = F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
        if number:
            last = x.mean((0, 2, 3))
            x = F.batch_norm(x, None, None, training=True)
        x = _leaky(x)
    torch.testing.assert_close(net(images), x.mean((2, 3)) @ net.embed.weight.T + net.embed.bias)
    torch.testing.assert_close(net.features[-2].running_mean, 0.03 * last)


def test_embeddings_may_be_put_on_the_unit_sphere():
    torch.manual_seed(0)
    free = MetricNet(embedding_dim=5, num_feat=2, num_layer=3).double()
    sphere = MetricNet(embedding_dim=5, num_feat=2, num_layer=3, unit_length=True).double()
    sphere.load_state_dict(free.state_dict())
    images = torch.rand(4, 3, 24, 24, dtype=torch.float64)
    embeddings = free(images)
    torch.testing.assert_close(sphere(images), embeddings / embeddings.square().sum(1, keepdim=True).sqrt())


def test_default_weights_have_gain_one_through_the_network():
    torch.manual_seed(0)
    net = MetricNet()
    conv = net.features[8]
    assert conv.weight.std().item() == pytest.approx((2 / 1.04 / (128 * 16)) ** 0.5, rel=0.005)  # of LeakyReLU(0.2)
    assert net.embed.weight.std().item() == pytest.approx((1 / 512) ** 0.5, rel=0.03)
    assert net.embed.bias.abs().max() == net.features[0].bias.abs().max() == 0


def test_the_range_option_maps_zero_one_to_minus_one_one():
    torch.manual_seed(0)
    mapped = MetricNet(num_feat=2, norm="none").double()
    plain = MetricNet(num_feat=2, norm="none", input_range="zero_one").double()
    plain.load_state_dict(mapped.state_dict())
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(mapped(images), plain(2 * images - 1))


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm2d), ("none", type(None))],
)
def test_every_convolution_but_the_first_is_normalised(norm, kind):
    net = MetricNet(num_feat=4, num_layer=3, norm=norm)
    layers = [type(layer) for layer in net.features]
    expected = [StridedConv2d, nn.LeakyReLU] + 2 * [StridedConv2d, kind, nn.LeakyReLU]
    assert layers == [layer for layer in expected if layer is not type(None)]
    if norm == "group":
        assert MetricNet(norm=norm).features[3].num_groups == 64 // 16
    if norm == "instance":
        assert net.features[3].affine


@pytest.mark.parametrize(("norm", "depends"), [("batch", True), ("group", False), ("instance", False), ("none", False)])
def test_only_batch_normalisation_couples_the_images(norm, depends):
    torch.manual_seed(0)
    net = MetricNet(num_feat=4, norm=norm).double()
    images = torch.rand(4, 3, 64, 64, dtype=torch.float64)
    coupled = not torch.allclose(net(images)[:2], net(images[:2]))
    assert coupled is depends


def test_default_initialisation_starts_at_the_scale_of_one_and_the_papers_far_below():
    torch.manual_seed(0)
    images = torch.rand(16, 3, 64, 64).mul(torch.rand(16, 3, 1, 1))  # of different colours
    learning = MetricNet()(images)
    paper = MetricNet(**PAPER)(images)
    spread_learning, spread_paper = (torch.pdist(e.detach()).mean().item() for e in (learning, paper))
    assert spread_learning > 1
    assert spread_paper < 0.1


def test_the_first_filters_can_begin_blind_to_brightness_and_slopes():
    nets = []
    for init in ("kaiming", "detail"):
        torch.manual_seed(0)
        nets.append(MetricNet(num_feat=8, init=init).double())
    kaiming, detail = nets
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    slopes = torch.stack([torch.ones(32, 32), row, column]).double()[None]
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # of the zero padding
    assert detail.features[0](slopes)[inside].abs().max() < 1e-4  # of values up to 31
    assert kaiming.features[0](slopes)[inside].abs().max() > 1
    noise = torch.rand(1, 3, 32, 32, dtype=torch.float64) - 0.5
    ratio = detail.features[0](noise).std() / kaiming.features[0](noise).std()
    assert ratio.item() == pytest.approx(4, rel=0.2)
    same = [torch.equal(a, b) for a, b in zip(kaiming.parameters(), detail.parameters(), strict=True)]
    assert same == [False, *[True] * (len(same) - 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "layer"}, "norm must be one of none, batch, group, instance, got 'layer'"),
        ({"pool": "mean"}, "pool must be one of max, avg, got 'mean'"),
        ({"input_range": "0-255"}, "input_range must be one of zero_one, minus_one_one"),
        ({"init": "xavier"}, "init must be one of default, kaiming, detail"),
        ({"num_layer": 0}, "num_layer must be at least 1, got 0"),
        ({"input_size": 63}, "input_size must be at least 64 for num_layer=5, got 63"),
    ],
)
def test_impossible_metric_networks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MetricNet(**arguments)


@pytest.mark.parametrize(
    ("arguments", "size", "message"),
    [
        ({"input_size": 64}, (64, 96), "built for images of 64x64, got 64x96"),
        ({}, (31, 64), "at least 32x32, got 31x64"),
        ({"norm": "instance"}, (32, 32), "at least 64x64, got 32x32"),
    ],
)
def test_images_of_impossible_sizes_are_refused(arguments, size, message):
    with pytest.raises(ValueError, match=message):
        MetricNet(num_feat=2, **arguments)(torch.rand(2, 3, *size))


def test_nmd_sees_noise_below_bfloat16s_step_under_autocast():
    torch.manual_seed(0)
    net = NMD(num_feat=8).eval()
    picture = 0.8 * torch.rand(8, 3, 1, 1) + 0.1 * torch.rand(8, 3, 32, 32)
    noisy = picture + 0.002 * torch.randn(picture.shape).sign()
    with torch.no_grad():
        exact = net(noisy) - net(picture)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(noisy) - net(picture)
    assert exact.abs().min() > 0
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=1e-6)
    assert net.to("meta")(torch.empty(1, 3, 16, 16, device="meta")).shape == (1, 1)
