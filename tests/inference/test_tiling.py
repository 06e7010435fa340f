from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mvmsr.archs import SRResNet
from mvmsr.inference import run_bands, run_tiled
from mvmsr.inference.memory import auto_tile
from mvmsr.inference.receptive_field import Margins, bytes_per_pixel, effective_halo, measure_margins, receptive_halo
from mvmsr.inference.tiling import fade, plan_spans


def _conv_net(scale: int, *kernels: int) -> nn.Sequential:
    torch.manual_seed(scale)
    channels = [3, *[6] * (len(kernels) - 1), 3 * scale**2]
    layers: list[nn.Module] = []
    for i, kernel in enumerate(kernels):
        layers += [nn.Conv2d(channels[i], channels[i + 1], kernel, padding=kernel // 2), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1], nn.PixelShuffle(scale)).eval()


class _Attention(nn.Module):
    """Every pixel sees the mean of the picture."""

    def forward(self, lq: Tensor) -> Tensor:
        return lq + 0.5 * lq.mean((2, 3), keepdim=True)


class _Windows(nn.Module):
    """Every pixel sees the mean of its own window of 8 x 8, on a grid."""

    def forward(self, lq: Tensor) -> Tensor:
        height, width = lq.shape[-2:]
        padded = nn.functional.pad(lq, (0, -width % 8, 0, -height % 8), mode="replicate")
        means = nn.functional.avg_pool2d(padded, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
        return lq + means[..., :height, :width]


@pytest.mark.parametrize(
    ("kernels", "halo"),
    [((1,), 0), ((3,), 1), ((5, 3), 3), ((9, 3, 3, 3), 7)],
)
def test_halo_is_the_sum_of_half_kernels(kernels: tuple[int, ...], halo: int) -> None:
    assert receptive_halo(_conv_net(2, *kernels), 2) == halo


def test_halo_counts_layers_whose_influence_drowns_in_rounding() -> None:
    network = _conv_net(1, *[3] * 30)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1e-3)  # the outermost pixel contributes about 1e-67
    assert receptive_halo(network, 1) == 30


def test_halo_is_rounded_up_after_the_last_shuffle() -> None:
    # A convolution at x4 reaches one output pixel, which is a quarter of an input pixel.
    network = nn.Sequential(nn.PixelShuffle(4), nn.Conv2d(3, 3, 3, padding=1))
    assert receptive_halo(nn.Sequential(nn.Conv2d(3, 48, 1), *network), 4) == 1


@pytest.mark.parametrize(
    ("kernel", "padding"),
    [((1, 9), (4, 4, 0, 0)), ((9, 1), (0, 0, 4, 4)), ((1, 2), (0, 1, 0, 0)), ((2, 1), (0, 0, 1, 0))],
)
@pytest.mark.parametrize("scale", [1, 2])
def test_halo_counts_every_direction(kernel: tuple[int, int], padding: tuple[int, ...], scale: int) -> None:
    """The furthest of up, down, left and right, after a shuffle, too, where it is rounded up."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 3 * scale**2, 1), nn.PixelShuffle(scale), nn.ZeroPad2d(padding), nn.Conv2d(3, 3, kernel)
    )
    assert receptive_halo(network, scale) == -(-max(padding) // scale)


class _Faintly(nn.Module):
    """A convolution of 2 * reach + 1, and what no one sees of every other pixel."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 2 * reach + 1, padding=reach, bias=False)
        nn.init.constant_(self.conv.weight, 0.1 / (2 * reach + 1))

    def forward(self, lq: Tensor) -> Tensor:
        return self.conv(lq) + 1e-4 * lq.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(("reach", "halo"), [(3, 16), (10, 20), (30, 60), (33, 64)])
def test_networks_that_fade_have_twice_their_visible_reach(reach: int, halo: int) -> None:
    assert measure_margins(_Faintly(reach), 1) == Margins(halo, blend=8, multiple=1)


def test_networks_without_a_bound_are_blended() -> None:
    assert receptive_halo(_Attention(), 1) is None
    assert measure_margins(_Attention(), 1).blend > 0
    assert receptive_halo(nn.InstanceNorm2d(3), 1) is None


def test_measuring_leaves_the_network_as_it_was(network: SRResNet) -> None:
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    receptive_halo(network, 4)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_effective_halo_ignores_what_fades() -> None:
    network = nn.Conv2d(3, 3, 21, padding=10, bias=False)
    with torch.no_grad():
        network.weight.fill_(1e-9)
        network.weight[..., 8:13, 8:13] = 0.01
    assert receptive_halo(network, 1) == 10
    assert effective_halo(network, 1, tolerance=1e-3) == 2


def test_the_grid_of_windows_is_found_and_kept() -> None:
    network = _Windows()
    assert receptive_halo(network, 1) is None
    margins = measure_margins(network, 1)
    assert margins == Margins(halo=0, blend=0, multiple=8)
    lq = torch.rand(1, 3, 45, 61)
    assert torch.allclose(run_tiled(network, lq, 1, 20, margins.halo, multiple=8), network(lq), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("kernels", [(3,), (5, 3), (9, 3, 3)])
def test_tiled_is_untiled(scale: int, kernels: tuple[int, ...]) -> None:
    network = _conv_net(scale, *kernels)
    halo = receptive_halo(network, scale)
    assert halo is not None
    sizes = torch.Generator().manual_seed(scale)
    for _ in range(12):
        height, width, tile, blend = (int(torch.randint(1, n, (), generator=sizes)) for n in (40, 40, 30, 6))
        lq = torch.rand(1, 3, height, width, generator=sizes)
        whole = network(lq)
        for fading in (0, blend):
            tiled = run_tiled(network, lq, scale, tile, halo, fading)
            assert tiled.shape == whole.shape
            assert (tiled - whole).abs().max() <= 1e-5, (height, width, tile, fading)


@torch.no_grad()
def test_one_pixel_less_than_the_halo_is_wrong() -> None:
    network = _conv_net(2, 5, 3)
    lq = torch.rand(1, 3, 30, 30)
    assert (run_tiled(network, lq, 2, 10, halo=2) - network(lq)).abs().max() > 1e-3


@torch.no_grad()
def test_srresnet_tiled_is_untiled(network: SRResNet) -> None:
    lq = torch.rand(1, 3, 33, 47)
    margins = measure_margins(network, 4)
    assert (margins.blend, margins.multiple) == (0, 1)
    assert (run_tiled(network, lq, 4, 12, margins.halo) - network(lq)).abs().max() <= 1e-5


@pytest.mark.parametrize("length", [1, 2, 7, 31, 64])
@pytest.mark.parametrize("tile", [1, 4, 9, 100])
@pytest.mark.parametrize("blend", [0, 1, 3, 8])
def test_fades_sum_to_one_and_cores_cover_once(length: int, tile: int, blend: int) -> None:
    spans = plan_spans(length, tile, halo=2, blend=blend)
    total, covered = torch.zeros(length * 3), torch.zeros(length)
    for span in spans:
        total[span.keep[0] * 3 : span.keep[1] * 3] += fade(span, length, 3)
        covered[slice(*span.core)] += 1
        assert (
            0 <= span.read[0] <= span.keep[0] <= span.core[0] < span.core[1] <= span.keep[1] <= span.read[1] <= length
        )
        assert span.core[1] - span.core[0] <= tile
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    assert torch.equal(covered, torch.ones_like(covered))


def test_spans_start_at_multiples() -> None:
    spans = plan_spans(100, 30, halo=5, blend=2, multiple=8)
    assert all(span.core[0] % 8 == 0 and span.read[0] % 8 == 0 for span in spans)
    assert all(span.read[1] % 8 == 0 for span in spans[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 4, 0), "got 0, 4"), ((4, 0, 0), "got 4, 0"), ((4, 4, -1), "-1"), ((4, 4, 0, -2), "-2")],
)
def test_impossible_plans(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_spans(*arguments)


@torch.no_grad()
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_tiles_shrink_when_memory_runs_out(error: Exception) -> None:
    network = _conv_net(2, 3, 3)
    sides = []

    def scarce(region: Tensor) -> Tensor:
        sides.append(max(region.shape[-2:]))
        if sides[-1] > 30:
            raise error
        return network(region)

    lq = torch.rand(1, 3, 90, 70)
    tiled = run_tiled(scarce, lq, 2, 64, halo=2, blend=1)
    assert (tiled - network(lq)).abs().max() <= 1e-5
    assert sum(side > 30 for side in sides) == 1  # a size that failed is not tried again


def test_no_tile_fits() -> None:
    sides = []

    def never(region: Tensor) -> Tensor:
        sides.append(max(region.shape[-2:]))
        raise RuntimeError("not enough memory: you tried to allocate 1 GB")

    message = r"does not fit into memory, and the network needs 6 pixels around each.*you tried to allocate"
    with pytest.raises(MemoryError, match=message):
        run_tiled(never, torch.rand(1, 3, 64, 64), 2, 64, halo=4, blend=2)
    assert min(sides) >= 16
    assert sides == sorted(set(sides), reverse=True)


def test_other_errors_pass_through() -> None:
    def broken(_region: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run_tiled(broken, torch.rand(1, 3, 8, 8), 2, 4, halo=1)


def test_bands_come_finished_and_progress_counts_every_pixel_once() -> None:
    done: list[int] = []
    lq = torch.rand(1, 3, 21, 17)
    bands = list(run_bands(nn.Identity(), lq, 1, 8, 2, 2, on_pixels=done.append))
    assert len(bands) == 3
    assert torch.allclose(torch.cat(bands, -2), lq, atol=1e-6)
    assert sum(done) == 21 * 17


@pytest.mark.parametrize(
    ("scale", "kernels", "largest"),
    [(1, (3, 3), 6), (1, (3,), 3), (2, (3, 3), 12), (3, (3, 3), 27)],  # numbers that a layer makes of a pixel
)
def test_memory_is_four_times_the_largest_output(scale: int, kernels: tuple[int, ...], largest: int) -> None:
    assert bytes_per_pixel(_conv_net(scale, *kernels), scale) == 4 * 4 * largest


def test_automatic_tiles_follow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    monkeypatch.setattr("mvmsr.inference.memory.free_memory", lambda _device: 2 * 200 * 200 * 1000)
    assert auto_tile(1000, device, margin=20) == 160
    assert auto_tile(1000, device, margin=20, multiple=64) == 128
    # On the CPU rows of the result lie in the same memory: 200 * 200 * 1000 = 100 * 100 * 1000 + 100 * 300,000.
    assert auto_tile(1000, device, margin=0, width=3125, scale=2) == 100
    monkeypatch.setattr("mvmsr.inference.memory.free_memory", lambda _device: None)
    assert auto_tile(1000, device, margin=20) == 256
