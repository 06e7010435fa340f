from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mvmsr.archs import SRResNet
from mvmsr.data.image_io import ImageError, Picture
from mvmsr.data.imresize import imresize
from mvmsr.inference import Restorer, Upscaler
from mvmsr.inference.transparency import bleed_colours


class _Nearest(nn.Module):
    """Repeats each pixel: exact in every depth."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lq: Tensor) -> Tensor:
        return lq.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def _nearest(scale: int = 2, **options: object) -> Upscaler:
    return Upscaler(Restorer(_Nearest(scale), scale, "cpu", "32"), **options)


def _noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16)])
def test_every_value_survives(dtype: type, size: tuple[int, int]) -> None:
    image = _noise(*size, 3, dtype=dtype)
    enlarged = _nearest().upscale_array(image)
    assert enlarged.dtype == dtype
    assert np.array_equal(enlarged, image.repeat(2, 0).repeat(2, 1))


def test_sixteen_bits_are_computed_in_float32(network: SRResNet) -> None:
    image = _noise(9, 9, 3, dtype=np.uint16)
    half, full = (Upscaler(Restorer(network, 4, "cpu", p)) for p in ("bf16-mixed", "32"))
    difference = np.abs(half.upscale_array(image).astype(int) - full.upscale_array(image))
    assert difference.max() <= 4  # of 65535; bfloat16 would be off by a hundred and more


@pytest.mark.parametrize("tile", [5, 16])
def test_tiles_change_no_pixel(network: SRResNet, tile: int) -> None:
    image = _noise(31, 23, 3)
    tiled, whole = (Upscaler(Restorer(network, 4, "cpu", "32"), tile=t).upscale_array(image) for t in (tile, 0))
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert np.mean(tiled != whole) < 1e-3


def test_a_network_that_needs_the_whole_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Global(_Nearest):
        tileable = False

        def forward(self, lq: Tensor) -> Tensor:
            return super().forward(lq - lq.mean() + 0.5)

    monkeypatch.setattr("mvmsr.inference.upscaler.auto_tile", lambda *_: 16)
    image = _noise(40, 30, 3)
    sizes = []
    ours = Upscaler(Restorer(Global(), 2, "cpu", "32"))
    ours.restorer.module.register_forward_hook(lambda _module, inputs, _output: sizes.append(inputs[0].shape[-2:]))
    ours.upscale_array(image)
    assert sizes == [(40, 30)]


def test_memory_that_runs_out_on_the_whole_leads_to_right_tiles(network: SRResNet) -> None:
    class Scarce(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, lq: Tensor) -> Tensor:
            if lq.shape[-1] * lq.shape[-2] > 64 * 64:
                raise RuntimeError("not enough memory: you tried to allocate 1 TB")
            return self.inner(lq)

    image = _noise(90, 70, 3)
    enlarged = Upscaler(Restorer(Scarce(), 4, "cpu", "32"), tile=0).upscale_array(image)
    assert np.abs(enlarged.astype(int) - Upscaler(Restorer(network, 4, "cpu", "32")).upscale_array(image)).max() <= 1


def test_grey_stays_grey(network: SRResNet) -> None:
    grey = np.repeat(_noise(8, 9, 1), 3, axis=2)
    result = Upscaler(Restorer(network, 4, "cpu", "32")).upscale(Picture(grey, grey=True))
    assert result.grey
    assert np.array_equal(result.rgb[..., 0], result.rgb[..., 1])
    assert np.array_equal(result.rgb[..., 0], result.rgb[..., 2])


def test_grey_is_the_luma_of_a_network_that_tints() -> None:
    class Tinting(nn.Module):
        def forward(self, lq: Tensor) -> Tensor:
            return lq * torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1)

    grey = Picture(np.full((4, 5, 3), 200, np.uint8), grey=True)
    result = Upscaler(Restorer(Tinting(), 1, "cpu", "32")).upscale(grey)
    assert (result.rgb == 105).all()  # 200 * (0.299 * 0.2 + 0.587 * 0.6 + 0.114)


def test_alpha_is_resized_and_hidden_colours_do_not_leak() -> None:
    rgb = np.full((12, 12, 3), 200, np.uint8)
    rgb[:, 6:] = (255, 0, 255)  # what editors leave under transparent pixels
    alpha = np.zeros((12, 12), np.uint8)
    alpha[:, :6] = 255
    result = Upscaler("bicubic", outscale=4).upscale(Picture(rgb, alpha))
    assert result.alpha is not None
    assert np.array_equal(result.alpha, imresize(alpha, scale=4))
    assert np.array_equal(result.rgb[result.alpha > 0], np.full((int((result.alpha > 0).sum()), 3), 200))


def test_opaque_alpha_stays_opaque() -> None:
    picture = Picture(_noise(5, 6, 3, dtype=np.uint16), np.full((5, 6), 65535, np.uint16))
    result = _nearest().upscale(picture)
    assert result.alpha is not None
    assert result.alpha.dtype == np.uint16
    assert (result.alpha == 65535).all()


def test_metadata_is_kept() -> None:
    result = _nearest().upscale(Picture(_noise(3, 3, 3), icc_profile=b"profile", exif=b"exif"))
    assert (result.icc_profile, result.exif) == (b"profile", b"exif")


@pytest.mark.parametrize(("outscale", "size"), [(3, (15, 21)), (1.5, (8, 10)), (0.1, (1, 1)), (2, (10, 14))])
def test_other_factors_are_reached_by_resizing(outscale: float, size: tuple[int, int]) -> None:
    image = _noise(5, 7, 3)
    enlarged = _nearest(outscale=outscale).upscale_array(image)
    assert enlarged.shape[:2] == size
    if outscale != 2:
        twice = (image.repeat(2, 0).repeat(2, 1) / 255.0).astype(np.float32)
        expected = np.floor(imresize(twice, output_size=size).clip(0, 1) * 255 + 0.5)
        assert np.abs(enlarged - expected).max() <= 1


def test_bicubic_is_imresize() -> None:
    image = _noise(6, 7, 3)
    assert np.abs(Upscaler("bicubic").upscale_array(image).astype(int) - imresize(image, scale=4)).max() <= 1


def test_progress_counts_every_pixel_once(network: SRResNet) -> None:
    for tile in (0, 8):
        done: list[int] = []
        Upscaler(Restorer(network, 4, "cpu", "32"), tile=tile).upscale(Picture(_noise(20, 13, 3)), done.append)
        assert sum(done) == 260


def test_ensemble_is_used_in_tiles(network: SRResNet) -> None:
    image = _noise(19, 14, 3)
    restorer = Restorer(network, 4, "cpu", "32")
    plain, whole, tiled = (
        Upscaler(restorer, tile=tile, ensemble=ensemble).upscale_array(image).astype(int)
        for tile, ensemble in ((0, False), (0, True), (8, True))
    )
    assert np.abs(whole - plain).max() > 1
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tile": -1}, "tile must be"), ({"tile": "big"}, "tile must be"), ({"outscale": 0}, "outscale must be")],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Upscaler("bicubic", **options)


def test_bleeding_takes_the_nearest_visible_colours() -> None:
    rgb = np.zeros((1, 8, 3), np.float32)
    rgb[0, 0], rgb[0, 7] = 0.25, 0.75
    alpha = np.array([[255, 0, 0, 0, 0, 0, 0, 255]])
    filled = bleed_colours(rgb, alpha)
    assert np.allclose(filled[0, :4], 0.25)
    assert np.allclose(filled[0, 4:], 0.75)


def test_bleeding_weighs_by_alpha_and_leaves_what_is_partly_visible() -> None:
    rgb = np.random.default_rng(0).random((2, 3, 3))
    alpha = np.array([[255, 1, 0], [64, 32, 0]])
    filled = bleed_colours(rgb, alpha)
    assert np.array_equal(filled[:, :2], rgb[:, :2])
    mean = (255 * rgb[0, 0] + rgb[0, 1] + 64 * rgb[1, 0] + 32 * rgb[1, 1]) / 352
    assert np.allclose(filled[:, 2], mean)


@pytest.mark.parametrize("alpha", [0, 255])
def test_bleeding_changes_nothing_where_all_or_nothing_is_visible(alpha: int) -> None:
    rgb = np.random.default_rng(0).random((5, 3, 3), np.float32)
    assert bleed_colours(rgb, np.full((5, 3), alpha)) is rgb


def test_a_deep_picture_is_reduced_for_jpeg(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mvmsr.data.image_io import read_picture, write_picture

    write_picture(tmp_path / "deep.png", Picture(np.full((4, 4, 3), 32896, np.uint16)))
    _nearest().upscale_file(tmp_path / "deep.png", tmp_path / "out.jpg")
    assert "16 bits are reduced" in caplog.text
    result = read_picture(tmp_path / "out.jpg").rgb
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - 128).max() <= 1


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_a_network_in_windows_is_right_in_tiles(tmp_path: Path) -> None:
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    torch.manual_seed(0)
    options = {"img_size": 16, "window_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [2]}
    torch.save(SwinIR(upscale=2, upsampler="pixelshuffledirect", **options).state_dict(), tmp_path / "swin.pth")
    image = _noise(50, 61, 3)
    tiled, whole = (
        Upscaler(tmp_path / "swin.pth", tile=t, device="cpu", precision="32").upscale_array(image) for t in (24, 0)
    )
    assert np.abs(tiled.astype(int) - whole).max() <= 1


def test_bicubic_keeps_to_the_memory_or_says_that_it_cannot(tmp_path: Path) -> None:
    picture = Picture(np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(MemoryError, match=r"a bicubic enlargement need about 2 MiB more and .* only 60 MiB are allow"):
        Upscaler("bicubic", max_memory=60 * 2**20).upscale_to(picture, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    Upscaler("bicubic", max_memory=2**40).upscale_to(picture, tmp_path / "a.png")


def test_formats_that_are_written_as_a_whole_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvmsr.inference.upscaler.require_room", lambda *_: None)  # this program itself is larger
    picture = Picture(np.zeros((100, 100, 3), np.uint8))  # 400 x 400 pixels of result take 9 bytes each
    needed = 400 * 400 * 9
    with pytest.raises(ImageError, match=r"\.jpg is written as a whole, which needs 1 MiB; choose png or tif"):
        Upscaler("bicubic", max_memory=2 * needed - 2).upscale_to(picture, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
    Upscaler("bicubic", max_memory=2 * needed).upscale_to(picture, tmp_path / "a.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
