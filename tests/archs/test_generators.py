"""SRResNet, MSRResNet, RDN and NSRNet against their published sizes and independent computations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvmsr import basicsr_shim
from mvmsr.archs import RDN, MSRResNet, NSRNet, SRResNet, count_parameters
from mvmsr.archs.dense_block import ResidualDenseBlock
from mvmsr.archs.scalar_prelu import ScalarPReLU
from mvmsr.archs.shuffled_conv import ShuffledConv2d
from mvmsr.archs.upsampler import make_upsampler, shuffle_factors


@pytest.mark.parametrize(
    ("network", "arguments", "parameters"),
    [
        (SRResNet, {}, 1_549_462),
        (SRResNet, {"bn": False}, 1_545_238),
        (SRResNet, {"num_block": 5}, 734_219),
        (SRResNet, {"num_block": 5, "bn": False}, 732_811),
        (MSRResNet, {}, 1_517_571),
        (RDN, {}, 22_271_107),
        (RDN, {"num_block": 20, "num_layer": 6, "num_grow_ch": 32}, 5_764_227),
        (NSRNet, {}, 4_959_235),
        (NSRNet, {"upscale": 2}, 4_811_523),
    ],
)
def test_published_parameter_counts(network, arguments, parameters):
    with torch.device("meta"):
        assert count_parameters(network(**arguments)) == parameters


@pytest.mark.parametrize("bn", [True, False])
def test_srresnet_is_the_papers_formula(bn):
    torch.manual_seed(0)
    net = SRResNet(num_feat=4, num_block=2, upscale=4, bn=bn).double().train()
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -1, 1)
    lq = torch.rand(3, 3, 6, 5, dtype=torch.float64)
    modules = iter(m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.PReLU)))

    def conv(x):
        layer = next(modules)
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def conv_bn(x):
        x = conv(x)
        if not bn:
            return x
        layer = next(modules)
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        affine = layer.weight.view(1, -1, 1, 1), layer.bias.view(1, -1, 1, 1)
        return (x - mean) / (var + 1e-5).sqrt() * affine[0] + affine[1]

    def prelu(x):
        return torch.where(x > 0, x, next(modules).weight * x)

    first = prelu(conv(lq))
    x = first
    for _ in range(2):
        x = x + conv_bn(prelu(conv_bn(x)))
    x = conv_bn(x) + first
    for _ in range(2):
        x = conv(x)
        x = prelu(F.pixel_shuffle(x, 2))
    expected = conv(x)
    assert next(modules, None) is None
    torch.testing.assert_close(net(lq), expected)


@pytest.mark.parametrize(("kernel_size", "factor"), [(9, 2), (9, 3), (9, 4), (5, 3), (3, 2), (1, 2), (3, 1)])
def test_a_convolution_before_the_shuffle_equals_the_one_after(kernel_size, factor):
    torch.manual_seed(0)
    layer = ShuffledConv2d(2, 3, kernel_size, factor).double()
    x = torch.randn(2, 2 * factor**2, 5, 7, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(F.pixel_shuffle(x, factor), layer.weight, layer.bias, padding=kernel_size // 2)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (x, layer.weight, layer.bias), upstream)
    got = torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), upstream)
    torch.testing.assert_close(layer(x), expected)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_even_kernel_has_no_middle():
    with pytest.raises(ValueError, match="odd, got 4"):
        ShuffledConv2d(1, 1, 4, 2)


def test_prelu_by_hand_with_its_gradients():
    activation = ScalarPReLU()
    assert activation.weight.tolist() == [0.25]
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    y = activation(x)
    y.backward(torch.tensor([1.0, 1.0, 10.0]))
    assert y.tolist() == [-0.5, 0.0, 3.0]
    assert x.grad[0] == 0.25
    assert x.grad[2] == 10.0
    assert activation.weight.grad.tolist() == [-2.0]


@pytest.mark.parametrize("slope", [0.25, 1.5, 0.0, -0.3])
def test_prelu_has_the_values_and_gradients_of_torch_for_every_slope(slope):
    ours, theirs = ScalarPReLU().double(), nn.PReLU().double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    grad = torch.randn_like(x)
    results = []
    for module in (ours, theirs):
        nn.init.constant_(module.weight, slope)
        image = x.clone().requires_grad_()
        y = module(image)
        y.backward(grad)
        results.append((y, image.grad, module.weight.grad))
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("upscale", [0, -2, 5, 6])
def test_scales_that_no_shuffles_make(upscale):
    with pytest.raises(ValueError, match=f"3 or a power of two .*got {upscale}"):
        shuffle_factors(upscale)


def test_upsampler_leaves_the_last_shuffle_to_the_caller():
    torch.manual_seed(0)
    whole = make_upsampler(4, 4, ScalarPReLU)
    partial = make_upsampler(4, 4, ScalarPReLU, last_shuffle=False)
    partial.load_state_dict(whole.state_dict())
    x = torch.rand(1, 4, 3, 3)
    torch.testing.assert_close(F.pixel_shuffle(partial(x), 2), whole(x))


@pytest.mark.parametrize("upscale", [2, 3, 4])
def test_msrresnet_equals_basicsrs_under_the_same_weights(upscale):
    theirs_class = basicsr_shim.find("ARCH_REGISTRY", "MSRResNet")
    if theirs_class is None:
        pytest.skip("BasicSR is not installed")
    torch.manual_seed(0)
    theirs = theirs_class(num_feat=8, num_block=2, upscale=upscale)
    ours = MSRResNet(num_feat=8, num_block=2, upscale=upscale)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    for ours_weight, theirs_weight in zip(ours.parameters(), theirs.parameters(), strict=True):
        # Drawn from the same law: a tenth of He's, biases zero.
        if ours_weight.numel() > 500:
            assert ours_weight.std().item() == pytest.approx(theirs_weight.std().item(), rel=0.2)
        elif ours_weight.dim() == 1:
            assert ours_weight.abs().max() == theirs_weight.abs().max() == 0
    ours.load_state_dict(theirs.state_dict())
    lq = torch.rand(2, 3, 6, 9)
    torch.testing.assert_close(ours(lq), theirs(lq))


def test_msrresnet_starts_near_bilinear_enlargement():
    torch.manual_seed(0)
    lq = torch.rand(1, 3, 8, 8)
    bilinear = F.interpolate(lq, scale_factor=4, mode="bilinear", align_corners=False)
    assert (MSRResNet(num_feat=16, num_block=2)(lq) - bilinear).abs().max() < 0.01


def test_dense_block_by_hand():
    """With identity-like weights the block is arithmetic on one pixel."""
    block = ResidualDenseBlock(num_feat=1, num_layer=2, num_grow_ch=1, residual_scale=0.5)
    for conv in [*block.layers, block.fuse]:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    with torch.no_grad():
        block.layers[0].weight[0, :, 1, 1] = torch.tensor([2.0])  # y1 = relu(2x)
        block.layers[1].weight[0, :, 1, 1] = torch.tensor([1.0, -1.0])  # y2 = relu(x - y1)
        block.layers[1].bias.fill_(10.0)  # ... + 10
        block.fuse.weight[0, :, 0, 0] = torch.tensor([1.0, 10.0, 100.0])
    x = torch.tensor([3.0, -4.0]).view(2, 1, 1, 1)
    # x=3: y1=6, y2=7, fused 3+60+700; x=-4: y1=0, y2=6, fused -4+0+600.
    assert block(x).flatten().tolist() == [3 + 0.5 * 763, -4 + 0.5 * 596]


def test_rdn_sums_the_first_features_and_all_blocks():
    torch.manual_seed(0)
    net = RDN(num_feat=4, num_block=3, num_layer=2, num_grow_ch=3, upscale=2).double()
    lq = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    first = net.conv_first(lq)
    one = net.blocks[0](net.conv_second(first))
    two = net.blocks[1](one)
    three = net.blocks[2](two)
    fused = F.conv2d(torch.cat([one, two, three], 1), net.fuse[0].weight, net.fuse[0].bias)
    fused = F.conv2d(fused, net.fuse[1].weight, net.fuse[1].bias, padding=1)
    up = net.upsampler[0]
    enlarged = F.pixel_shuffle(F.conv2d(first + fused, up.weight, up.bias, padding=1), 2)
    torch.testing.assert_close(net(lq), net.conv_last(enlarged))


def test_nsrnets_fractal_skips_counted_on_identity_blocks():
    """Blocks without residual pass their input on; the skips then multiply the first features by a known number."""
    torch.manual_seed(0)
    net = NSRNet(num_feat=4, num_layer=1, upscale=2).double()
    for block in net.blocks:
        nn.init.zeros_(block.fuse.weight)
        nn.init.zeros_(block.fuse.bias)
    lq = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    first = net.conv_first(lq)
    # After 2 blocks: 2 first; after 4: 2+2+1 = 5; after 6: 5+5 = 10; after 8: 10+10+5+1 = 26.
    expected = net.conv_last(net.upsampler(net.conv_body(26 * first) + first))
    torch.testing.assert_close(net(lq), expected)


def test_nsrnets_blocks_come_in_order():
    """Each block's residual reaches the output as often as the skips say."""
    net = NSRNet(num_feat=1, num_in_ch=1, num_out_ch=1, num_layer=1, upscale=1).double()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    for conv in (net.conv_body, net.conv_last):
        conv.weight.data[0, 0, 1, 1] = 1.0
    reached = []
    for block in net.blocks:
        block.fuse.bias.data.fill_(10.0)  # times the residual factor 0.1
        reached.append(net(torch.zeros(1, 1, 1, 1, dtype=torch.float64)).item())
        block.fuse.bias.data.zero_()
    # after8 takes the last pair once, after6 twice, after4 twice through it and once more, after2 twice through that.
    assert reached == pytest.approx([10, 10, 5, 5, 2, 2, 1, 1])


def test_nsrnet_starts_from_the_initialisations_of_the_paper():
    torch.manual_seed(0)
    net = NSRNet()
    relu_conv = net.blocks[0].layers[4].weight.detach()  # fan-in 5 * 64 * 9
    linear_conv = net.conv_body.weight.detach()  # fan-in = fan-out = 64 * 9
    assert relu_conv.std().item() == pytest.approx((2 / (5 * 64 * 9)) ** 0.5, rel=0.02)
    assert linear_conv.std().item() == pytest.approx((1 / (64 * 9)) ** 0.5, rel=0.02)
    assert linear_conv.abs().max() <= (6 / (2 * 64 * 9)) ** 0.5
    assert all(p.abs().max() == 0 for n, p in net.named_parameters() if n.endswith("bias"))


SMALL = {
    SRResNet: {"num_feat": 8, "num_block": 2, "bn": False},
    RDN: {"num_feat": 8, "num_block": 2, "num_layer": 2, "num_grow_ch": 4},
    NSRNet: {"num_feat": 8, "num_layer": 2},
}


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("generator", SMALL)
def test_a_global_skip_adds_the_enlarged_input_and_no_parameters(generator, mode):
    torch.manual_seed(0)
    plain, skipping = generator(**SMALL[generator]), generator(**SMALL[generator], global_skip=mode)
    skipping.load_state_dict(plain.state_dict())
    lq = torch.rand(2, 3, 7, 5)
    enlarged = F.interpolate(lq, scale_factor=4, mode=mode, align_corners=False)
    torch.testing.assert_close(skipping(lq), plain(lq) + enlarged)


@pytest.mark.parametrize("generator", SMALL)
def test_a_network_with_a_skip_starts_near_the_enlargement(generator):
    torch.manual_seed(0)
    shape = {"bn": False} if generator is SRResNet else {}
    net, lq = generator(**shape, global_skip="bicubic"), torch.rand(1, 3, 12, 12)
    difference = net(lq) - F.interpolate(lq, scale_factor=4, mode="bicubic", align_corners=False)
    assert 0 < difference.abs().max() < 0.1


@pytest.mark.parametrize("generator", SMALL)
@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"global_skip": "nearest"}, "nearest"), ({"global_skip": "bilinear", "num_out_ch": 1}, "1")],
)
def test_generators_refuse_skips_that_they_do_not_know(generator, arguments, named):
    with pytest.raises(ValueError, match=f"global_skip.*{named}"):
        generator(**SMALL[generator], **arguments)
