"""Pairs that are made from ground truth alone."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from mvmsr.data import PairedImageDataset, RealESRGANDataset, TrainBatches, read_rgb, write_rgb
from mvmsr.data.paired_dataset import check_pictures
from mvmsr.data.second_order import second_order
from mvmsr.data.sharpening import sharpened

NO_CHANGE = {"second_blur_prob": 0.0, "final_sinc_prob": 0.0}
for _suffix in ("", "2"):
    NO_CHANGE |= {f"resize_prob{_suffix}": (0, 0, 1), f"gaussian_noise_prob{_suffix}": 1.0}
    NO_CHANGE |= {f"noise_range{_suffix}": (0, 0), f"jpeg_range{_suffix}": (100, 100), f"sinc_prob{_suffix}": 0.0}
    NO_CHANGE |= {f"kernel_list{_suffix}": ("iso",), f"kernel_prob{_suffix}": (1.0,)}
    NO_CHANGE |= {f"blur_sigma{_suffix}": (0.1, 0.1)}


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _dataset(root, **options) -> RealESRGANDataset:
    return RealESRGANDataset(str(root), cache_dir=root.parent / "cache", **options)


def test_its_arguments_are_all_of_both_rounds():
    defaults = {name: p.default for name, p in inspect.signature(RealESRGANDataset).parameters.items()}
    shared = [*inspect.signature(PairedImageDataset).parameters]
    shared.remove("filename_tmpl")
    own = [name for name in defaults if name not in [*shared, "gt_usm"]]
    assert len(own) == 2 * 14 + 2
    assert second_order(defaults) == second_order({})
    for name in own:
        # Lists of kernels go with their probabilities, which are named first.
        with pytest.raises(ValueError, match=f"^{name.replace('list', 'prob')} must"):
            second_order({name: () if isinstance(defaults[name], tuple) else -1})


def test_crops(made_set):
    root = made_set(sides=(96, 120))
    data = _dataset(root, gt_size=32)
    whole = data.store.gt(1)
    for seed in range(4):
        lq, gt = data.crop(1, _rng(seed))
        assert (lq.shape, gt.shape, lq.dtype, gt.dtype) == ((8, 8, 3), (32, 32, 3), np.uint8, np.uint8)
        turns = [turn for t in (gt, gt.swapaxes(0, 1)) for turn in (t, t[::-1], t[:, ::-1], t[::-1, ::-1])]
        windows = np.lib.stride_tricks.sliding_window_view(whole[..., 1], (32, 32))
        assert any((windows == turn[..., 1]).all(axis=(2, 3)).any() for turn in turns), "no crop of the picture"
        again = data.crop(1, _rng(seed))
        np.testing.assert_array_equal(lq, again[0])
        np.testing.assert_array_equal(gt, again[1])
    assert (data.crop(0, _rng(0))[0] != data.crop(1, _rng(0))[0]).any()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_both_sides_show_the_same_place(tmp_path, scale):
    y, x = np.mgrid[:144, :180]
    write_rgb(tmp_path / "set" / "a.png", np.stack([y, x, (x + y) // 2], axis=2).astype(np.uint8))
    data = _dataset(tmp_path / "set", gt_size=36, scale=scale, **NO_CHANGE)
    for seed in range(20):
        lq, gt = (side.astype(float) for side in data.crop(0, _rng(seed)))
        blocks = gt.reshape(36 // scale, scale, 36 // scale, scale, 3).mean(axis=(1, 3))
        assert np.abs(lq - blocks).mean() < 1.5 + scale / 3


def test_options_of_augmentation_are_kept(tmp_path):
    y, x = np.mgrid[:64, :64]
    write_rgb(tmp_path / "set" / "a.png", np.stack([3 * y, 3 * x, x], axis=2).astype(np.uint8))
    plain = _dataset(tmp_path / "set", gt_size=32, use_hflip=False, use_rot=False)
    rising = {(bool((np.diff(gt[:, 0, 0].astype(int)) == 3).all()), bool((np.diff(gt[0, :, 1].astype(int)) == 3).all()))
              for gt in (plain.crop(0, _rng(seed))[1] for seed in range(10))}  # fmt: skip
    assert rising == {(True, True)}


def test_a_crop_may_be_the_whole_picture(made_set):
    root = made_set(sides=(48, 48))
    lq, gt = _dataset(root, gt_size=48).crop(0, _rng())
    assert (lq.shape, gt.shape) == ((12, 12, 3), (48, 48, 3))


def test_it_is_blurred_with_the_pixels_around_it(tmp_path):
    """Beside a bright half, a crop that is all dark may have bright pixels; not if its own edge were mirrored."""
    half = np.zeros((64, 128, 3), np.uint8)
    half[:, 64:] = 255
    write_rgb(tmp_path / "set" / "a.png", half)
    wide = {"blur_sigma": (4.0, 4.0)}
    data = _dataset(tmp_path / "set", gt_size=32, **{**NO_CHANGE, **wide})
    dark = [lq.max() for lq, gt in (data.crop(0, _rng(seed)) for seed in range(60)) if gt.max() == 0]
    assert len(dark) > 5
    assert max(dark) > 40


def test_batches_go_on_where_they_stopped(made_set):
    data = _dataset(made_set(sides=(64, 64)), gt_size=32)
    through = list(TrainBatches(data, 4, seed=7).iterate(0, 4))
    resumed = TrainBatches(data, 4, seed=7).batch(3)
    assert (resumed.lq == through[3].lq).all()
    assert (resumed.gt == through[3].gt).all()
    assert (through[2].lq != through[3].lq).any()


def test_the_ground_truth_is_sharpened_for_both_sides(made_set):
    root = made_set(sides=(64, 64))
    plain = _dataset(root, gt_size=64, use_hflip=False, use_rot=False, **NO_CHANGE)
    sharp = _dataset(root, gt_size=64, use_hflip=False, use_rot=False, gt_usm=True, **NO_CHANGE)
    (lq, gt), (sharp_lq, sharp_gt) = plain.crop(0, _rng()), sharp.crop(0, _rng())
    np.testing.assert_array_equal(gt, read_rgb(root / "img1.png"))
    np.testing.assert_array_equal(sharp_gt, sharpened(gt))
    assert (sharp_gt != gt).any()
    assert (sharp_lq != lq).any()


def test_low_quality_pictures_are_neither_taken_nor_looked_at(tmp_path, picture):
    write_rgb(tmp_path / "set" / "HR" / "a.png", picture(64, 64))
    (tmp_path / "set" / "LR_bicubic" / "X4").mkdir(parents=True)
    (tmp_path / "set" / "LR_bicubic" / "X4" / "a.png").write_bytes(b"no picture")
    data = _dataset(tmp_path / "set", gt_size=32)
    assert [pair.lq for pair in data.pairs] == [None]
    assert check_pictures(str(tmp_path / "set"), gt_size=32, gt_only=True) == 1
    with pytest.raises(ValueError, match=r"^dataroot_lq is not read by RealESRGANDataset, which"):
        _dataset(tmp_path / "set", dataroot_lq=str(tmp_path))


def test_options_are_checked_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="jpeg_range2 must be"):
        RealESRGANDataset(str(tmp_path / "nowhere"), jpeg_range2=(5, 1))
