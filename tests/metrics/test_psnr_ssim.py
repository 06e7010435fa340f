from __future__ import annotations

import math

import numpy as np
import pytest

from mvmsr.basicsr_shim import import_basicsr
from mvmsr.metrics import Psnr, Ssim, build_metric, make_protocol
from mvmsr.metrics.protocol import planes
from mvmsr.metrics.psnr import psnr
from mvmsr.metrics.ssim import ssim


def pair(seed: int = 0, height: int = 40, width: int = 52) -> tuple[np.ndarray, np.ndarray]:
    """A smooth colour picture and a noisy copy, both (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (3 + c) + c) + np.cos(y / (4 + c)) for c in range(3)]
    gt = np.stack(waves, axis=2) * 50 + 128
    sr = gt + rng.normal(0, 12, gt.shape)
    return np.clip(sr, 0, 255).round().astype(np.uint8), gt.round().astype(np.uint8)


def ssim_by_loops(first: np.ndarray, second: np.ndarray) -> float:
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for i in range(first.shape[0] - 10):
        for j in range(first.shape[1] - 10):
            a, b = first[i : i + 11, j : j + 11], second[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            c1, c2 = 6.5025, 58.5225
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_psnr_by_hand() -> None:
    zeros = np.zeros((1, 2, 2))
    one_wrong = np.array([[[0, 0], [0, 2.0]]])  # MSE 1
    assert psnr(zeros, one_wrong) == pytest.approx(20 * math.log10(255), abs=1e-12)
    assert psnr(zeros, one_wrong, data_range=1.0) == pytest.approx(0, abs=1e-12)


def test_equal_pictures() -> None:
    _, gt = pair()
    for name in ("y", "y_float", "rgb", "rgb_zero_pad"):
        protocol = make_protocol(name, 4)
        assert Psnr()(gt, gt, protocol) == math.inf
        assert Ssim()(gt, gt, protocol) == pytest.approx(1, abs=1e-12)


def test_ssim_equals_loops() -> None:
    sr, gt = pair(1, 18, 21)
    first, second = sr[..., 0].astype(float), gt[..., 0].astype(float)
    assert ssim(first[None], second[None]) == pytest.approx(ssim_by_loops(first, second), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_ssim_does_not_depend_on_the_type_of_the_numbers(dtype: type) -> None:
    sr, gt = (np.ascontiguousarray(picture.transpose(2, 0, 1)) for picture in pair(3))
    expected = ssim(sr.astype(float), gt.astype(float))
    assert ssim(sr.astype(dtype), gt.astype(dtype)) == pytest.approx(expected, abs=1e-12)
    assert ssim(sr.astype(dtype), gt.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_ssim_is_scikit_images_where_conventions_meet() -> None:
    from skimage.metrics import structural_similarity

    sr, gt = pair(2)
    _, full = structural_similarity(
        gt[..., 1].astype(float),
        sr[..., 1].astype(float),
        gaussian_weights=True,
        sigma=1.5,
        win_size=11,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    expected = full[5:-5, 5:-5].mean()
    assert ssim(gt[None, ..., 1].astype(float), sr[None, ..., 1].astype(float)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(11, 11), (138, 266), (139, 267), (300, 600)])
def test_ssim_in_tiles_is_that_of_the_whole(shape: tuple[int, int]) -> None:
    from scipy.ndimage import correlate1d

    rng = np.random.default_rng(0)
    first = rng.uniform(0, 255, shape)
    second = first + rng.normal(0, 9, shape)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def smooth(plane: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(plane, taps, 0), taps, 1)[5:-5, 5:-5]

    m1, m2 = smooth(first), smooth(second)
    v1, v2 = smooth(first**2) - m1**2, smooth(second**2) - m2**2
    cov = smooth(first * second) - m1 * m2
    similarity = (2 * m1 * m2 + 6.5025) * (2 * cov + 58.5225) / ((m1**2 + m2**2 + 6.5025) * (v1 + v2 + 58.5225))
    assert ssim(first[None], second[None]) == pytest.approx(similarity.mean(), abs=1e-12)


def test_psnr_is_scikit_images() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    sr, gt = pair(8)
    assert Psnr()(sr, gt, make_protocol("rgb_zero_pad", 4)) == pytest.approx(
        peak_signal_noise_ratio(gt, sr, data_range=255), abs=1e-9
    )


def test_psnr_in_parts_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 255, (2, 3, 150, 301))
    expected = 10 * math.log10(255**2 / np.mean((first - second) ** 2))
    assert psnr(first, second) == pytest.approx(expected, abs=1e-10)
    with pytest.raises(ValueError, match="empty"):
        psnr(np.zeros((0, 3)), np.zeros((0, 3)))


def test_zero_padding_equals_padding_by_hand() -> None:
    sr, gt = pair(3, 12, 14)
    first, second = (np.pad(image[..., 0].astype(float), 5) for image in (sr, gt))
    expected = ssim_by_loops(first, second)
    actual = ssim(sr[None, ..., 0].astype(float), gt[None, ..., 0].astype(float), "zero_pad")
    assert actual == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("protocol", "on_luma"), [("y_float", True), ("rgb", False)])
def test_equals_basicsr(protocol: str, on_luma: bool) -> None:
    theirs = import_basicsr("basicsr.metrics.psnr_ssim")
    if theirs is None:
        pytest.skip("BasicSR is not installed")
    sr, gt = pair(4)
    bgr = [image[..., ::-1] for image in (sr, gt)]
    ours = make_protocol(protocol, 4)
    assert Psnr()(sr, gt, ours) == pytest.approx(theirs.calculate_psnr(*bgr, 4, test_y_channel=on_luma), abs=1e-6)
    assert Ssim()(sr, gt, ours) == pytest.approx(theirs.calculate_ssim(*bgr, 4, test_y_channel=on_luma), abs=1e-6)


def test_metrics_are_symmetric_and_ignore_the_border() -> None:
    sr, gt = pair(5)
    protocol = make_protocol("y", 4)
    for metric in (Psnr(), Ssim()):
        value = metric(sr, gt, protocol)
        assert metric(gt, sr, protocol) == pytest.approx(value, abs=1e-12)
        vandalised = sr.copy()
        vandalised[:4] = vandalised[-4:] = 0
        vandalised[:, :4] = vandalised[:, -4:] = 255
        assert metric(vandalised, gt, protocol) == value
        vandalised[4, 4] = 255 - vandalised[4, 4]
        assert metric(vandalised, gt, protocol) < value


def test_more_noise_scores_lower() -> None:
    sr, gt = pair(6)
    worse = np.clip(sr.astype(int) + np.random.default_rng(0).integers(-20, 21, sr.shape), 0, 255).astype(np.uint8)
    for metric in (Psnr(), Ssim()):
        assert metric.higher_is_better
        assert metric(worse, gt, make_protocol("rgb", 2)) < metric(sr, gt, make_protocol("rgb", 2))


def test_planes() -> None:
    sr, _ = pair(7, 12, 16)
    assert planes(sr, make_protocol("y", 2)).shape == (1, 8, 12)
    rgb = planes(sr, make_protocol("rgb", 2))
    assert rgb.dtype == np.float64
    assert np.array_equal(rgb, sr[2:-2, 2:-2].transpose(2, 0, 1))
    assert planes(sr, make_protocol("rgb_zero_pad", 4)).shape == (3, 12, 16)


@pytest.mark.parametrize("metric", [Psnr(), Ssim()])
@pytest.mark.parametrize(
    ("sr_shape", "gt_shape", "message"),
    [
        ((20, 20, 3), (20, 24, 3), r"result has shape \(20, 20, 3\), the original \(20, 24, 3\)"),
        ((8, 30, 3), (8, 30, 3), "30x8 has nothing left when 4 px"),
        ((20, 20), (20, 20), r"expected an image \(H, W, 3\), got \(20, 20\)"),
        ((20, 20, 3), None, "none was given"),
    ],
)
def test_refusals(metric: Psnr, sr_shape: tuple, gt_shape: tuple | None, message: str) -> None:
    gt = None if gt_shape is None else np.zeros(gt_shape, np.uint8)
    with pytest.raises(ValueError, match=message):
        metric(np.zeros(sr_shape, np.uint8), gt, make_protocol("y", 4))


def test_small_pictures_have_no_valid_ssim() -> None:
    metric = Ssim()
    assert metric.limitation(18, 100, make_protocol("y", 4)) is not None
    assert metric.limitation(19, 100, make_protocol("y", 4)) is None
    tiny, zero_pad = pair(9, 5, 8), make_protocol("rgb_zero_pad", 4)  # a window fits once zeros are around it
    assert metric.limitation(5, 8, zero_pad) is None
    assert 0 < metric(*tiny, zero_pad) < 1
    small = np.zeros((18, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="fewer than the 11x11 window"):
        metric(small, small, make_protocol("y", 4))


def test_pure_functions_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(np.zeros((2, 2)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="of one shape"):
        ssim(np.zeros((20, 20)), np.zeros((20, 20)))
    with pytest.raises(ValueError, match="use 'valid' or 'zero_pad'"):
        ssim(np.zeros((1, 20, 20)), np.zeros((1, 20, 20)), "same")  # type: ignore[arg-type]


def test_a_metric_under_a_protocol_of_its_own() -> None:
    sr, gt = pair(4)
    for name, protocol in (
        ("psnr_rgb", make_protocol("rgb", 4)),
        ("psnr_y_float_crop2", make_protocol("y_float", 4, 2)),
        ("ssim_rgb_crop0", make_protocol("rgb", 4, 0)),
    ):
        metric = build_metric(name)
        plain = build_metric(name[:4])
        assert metric.name == name
        assert metric.higher_is_better
        assert metric.decimals == plain.decimals
        assert metric(sr, gt, make_protocol("y", 4)) == plain(sr, gt, protocol) != plain(sr, gt, make_protocol("y", 4))


def test_a_protocol_of_its_own_says_which_pictures_are_too_small() -> None:
    for name, protocol, fits in (("ssim_rgb_crop0", "y", True), ("ssim_rgb_crop1", "rgb_zero_pad", False)):
        assert (build_metric(name).limitation(11, 12, make_protocol(protocol, 4)) is None) == fits
