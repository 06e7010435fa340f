from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mvmsr.data import packing
from mvmsr.data.image_io import read_rgb, write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import LayoutError
from mvmsr.data.packed_store import StoreError, open_store
from mvmsr.data.packing import PairError
from mvmsr.data.paired_dataset import PairedImageDataset
from mvmsr.registry import DATASETS


def open_set(root: Path, **arguments: object) -> PairedImageDataset:
    options = {"gt_size": 16, "cache_dir": root.parent / "cache", **arguments}
    return PairedImageDataset(str(root), **options)


def stores(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").glob("*.mvmpack"))


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr(packing, "read_rgb", fail)


def test_is_registered():
    assert DATASETS.get("PairedImageDataset") is PairedImageDataset


def test_holds_cropped_ground_truth_and_its_downscaled_version(made_set):
    root = made_set(count=2, sides=(45, 50))
    data = open_set(root)
    assert len(data) == 2
    assert data.names == ["img1", "img2"]
    for number in range(2):
        whole = read_rgb(root / f"img{number + 1}.png")[:44, :48]
        np.testing.assert_array_equal(data.store.gt(number), whole)
        np.testing.assert_array_equal(data.store.lq(number), imresize(whole, 0.25))


def test_low_quality_files_are_taken_as_they_are(made_set, picture, tmp_path: Path):
    root = made_set(count=2)
    for number in range(2):
        write_rgb(tmp_path / f"lr/img{number + 1}x4.png", picture(12, 14, seed=50 + number))
    data = open_set(root, dataroot_lq=str(tmp_path / "lr"))
    np.testing.assert_array_equal(data.store.lq(1), picture(12, 14, seed=51))


def test_low_quality_of_a_size_rounded_up_is_cut(picture, tmp_path: Path):
    whole = picture(45, 50)
    write_rgb(tmp_path / "set/a.png", whole)
    write_rgb(tmp_path / "lr/a.png", imresize(whole, 0.25))
    data = open_set(tmp_path / "set", dataroot_lq=str(tmp_path / "lr"))
    np.testing.assert_array_equal(data.store.lq(0), imresize(whole, 0.25)[:11, :12])


def test_crops_are_aligned(made_set):
    data = open_set(made_set(sides=(64, 80)), gt_size=48)
    rng = np.random.default_rng(0)
    for turn in range(20):
        lq, gt = data.crop(turn % len(data), rng)
        assert lq.shape == (12, 12, 3)
        assert gt.shape == (48, 48, 3)
        assert lq.flags.c_contiguous
        assert gt.flags.c_contiguous
        # The kernel reaches 2 low-quality pixels, so beyond 3 from the border the crop alone gives the same values.
        made = imresize(gt, 0.25).astype(int)
        assert np.abs(made - lq)[3:-3, 3:-3].max() <= 1


def symmetry(gt: np.ndarray, whole: np.ndarray) -> int | None:
    for turns in range(4):
        for mirrored in range(2):
            turned = np.rot90(whole, turns)
            if np.array_equal(gt, turned[:, ::-1] if mirrored else turned):
                return 2 * turns + mirrored
    return None


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 8), ({"use_rot": False}, 2), ({"use_hflip": False}, 4), ({"use_hflip": False, "use_rot": False}, 1)],
)
def test_symmetries(made_set, options: dict[str, bool], count: int):
    root = made_set(count=1, sides=(16, 16))
    data = open_set(root, **options)
    whole = read_rgb(root / "img1.png")
    rng = np.random.default_rng(0)
    seen = Counter(symmetry(data.crop(0, rng)[1], whole) for _ in range(480))
    assert None not in seen
    assert len(seen) == count
    assert min(seen.values()) > 0.65 * 480 / count


def test_crop_positions_cover_the_picture_and_keep_to_the_grid(made_set):
    root = made_set(count=1, sides=(24, 20))
    data = open_set(root, use_hflip=False, use_rot=False)
    whole = read_rgb(root / "img1.png")
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(60):
        gt = data.crop(0, rng)[1]
        found |= {(y, x) for y in range(9) for x in range(5) if np.array_equal(whole[y : y + 16, x : x + 16], gt)}
    assert found == {(y, x) for y in (0, 4, 8) for x in (0, 4)}


def test_switching_augmentation_off_keeps_the_crops_where_they_were(made_set):
    root = made_set()
    plain = open_set(root, use_hflip=False, use_rot=False).crop(0, np.random.default_rng(5))[1]
    turned = open_set(root).crop(0, np.random.default_rng(5))[1]
    assert symmetry(turned, plain) is not None


def test_opened_again_without_decoding(made_set, monkeypatch: pytest.MonkeyPatch):
    root = made_set()
    first = open_set(root)
    assert len(stores(root)) == 1
    forbid_decoding(monkeypatch)
    again = open_set(root, gt_size=8)  # another crop size needs no other store
    np.testing.assert_array_equal(again.store.gt(3), first.store.gt(3))
    assert not first.store.gt(0).flags.writeable


def test_packed_again_when_a_source_changes(made_set, picture, caplog: pytest.LogCaptureFixture):
    root = made_set()
    open_set(root)
    (old,) = stores(root)
    write_rgb(root / "img2.png", picture(48, 56, seed=99))
    os.utime(root / "img2.png", ns=(1, 1))
    with pytest.raises(StoreError, match=r"img2\.png has changed"):
        open_store(old)
    with caplog.at_level(logging.INFO):
        data = open_set(root)
    assert "have changed since they were packed" in caplog.text
    np.testing.assert_array_equal(data.store.gt(1), picture(48, 56, seed=99))
    (new,) = stores(root)  # the old one is gone
    assert new != old


def test_packed_again_when_a_source_changes_and_keeps_its_length(picture, tmp_path: Path):
    for seed in (1, 2):
        write_rgb(tmp_path / "set/a.bmp", picture(16, 16, seed=seed))
        os.utime(tmp_path / "set/a.bmp", (seed, seed))
        np.testing.assert_array_equal(open_set(tmp_path / "set").store.gt(0), picture(16, 16, seed=seed))


@pytest.mark.parametrize("damage", ["truncated", "no index", "index edited", "other version"])
def test_packed_again_when_the_store_is_damaged(made_set, damage: str, caplog: pytest.LogCaptureFixture):
    root = made_set()
    expected = open_set(root).store.gt(4).copy()
    (store,) = stores(root)
    index = store / "index.json"
    if damage == "truncated":
        os.truncate(store / "pixels.bin", 1000)
    elif damage == "no index":
        index.unlink()
    elif damage == "index edited":
        index.write_text(index.read_text().replace('"scale": 4', '"scale": 2'))
    else:
        document = json.loads(index.read_text())
        document["index"]["version"] = 0
        index.write_text(json.dumps(document))
    with pytest.raises(StoreError):
        open_store(store)
    with caplog.at_level(logging.INFO):
        data = open_set(root)
    assert "packing again" in caplog.text
    np.testing.assert_array_equal(data.store.gt(4), expected)


def test_a_failed_build_leaves_nothing(made_set, monkeypatch: pytest.MonkeyPatch):
    root = made_set()
    (root / "img3.png").write_bytes((root / "img3.png").read_bytes()[:900])
    with pytest.raises(PairError, match=r"img3\.png: is truncated"):
        open_set(root)
    assert list((root.parent / "cache").iterdir()) == []


def test_many_pictures_are_packed_in_parallel_alike(made_set, monkeypatch: pytest.MonkeyPatch):
    root = made_set(count=12, sides=(16, 20))
    expected = [open_set(root).store.gt(i).copy() for i in range(12)]
    shutil.rmtree(root.parent / "cache")
    monkeypatch.setattr(packing, "_PARALLEL_FROM", 2)
    data = open_set(root)
    for number in range(12):
        np.testing.assert_array_equal(data.store.gt(number), expected[number])


def _build_in_process(root: str, cache: str, queue: multiprocessing.Queue) -> None:
    data = PairedImageDataset(root, gt_size=16, cache_dir=cache)
    queue.put(int(data.store.gt(0).sum()))


@pytest.mark.slow
def test_two_processes_share_one_build(made_set):
    root = made_set(count=8)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=_build_in_process, args=(str(root), str(root.parent / "cache"), queue)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    sums = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert sums == {int(read_rgb(root / "img1.png").astype(np.int64).sum())}
    assert [entry.suffix for entry in (root.parent / "cache").iterdir()] == [".mvmpack"]


def test_a_lock_left_by_a_dead_process_is_broken(made_set):
    root = made_set(count=1)
    open_set(root)
    (store,) = stores(root)
    shutil.rmtree(store)
    lock = store.with_suffix(".lock")
    lock.touch()
    os.utime(lock, (1, 1))
    assert len(open_set(root)) == 1
    assert not lock.exists()


def test_pickles_without_its_pixels(made_set):
    data = open_set(made_set())
    frozen = pickle.dumps(data)
    assert len(frozen) < 4000
    np.testing.assert_array_equal(pickle.loads(frozen).store.gt(2), data.store.gt(2))


def test_several_roots(made_set, tmp_path: Path):
    one, two = made_set("one", count=2), made_set("two", count=3)
    data = PairedImageDataset([str(one), str(two)], gt_size=16, cache_dir=tmp_path / "cache")
    assert data.names == ["one/img1", "one/img2", "two/img1", "two/img2", "two/img3"]
    (two / "img1.png").rename(two / "other1.png")
    (two / "img2.png").rename(two / "other2.png")
    data = PairedImageDataset([str(one), str(two)], gt_size=16, cache_dir=tmp_path / "cache")
    assert data.names == ["img1", "img2", "img3", "other1", "other2"]  # nothing clashes
    (tmp_path / "meta.txt").write_text("img1.png\n")
    with pytest.raises(ValueError, match="meta_info_file works with a single dataroot_gt"):
        PairedImageDataset([str(one), str(two)], meta_info_file=str(tmp_path / "meta.txt"))


def test_default_cache_is_below_the_data_root(made_set, monkeypatch: pytest.MonkeyPatch):
    root = made_set()
    monkeypatch.delenv("MVMSR_DATA_ROOT", raising=False)
    PairedImageDataset("set", gt_size=16, data_root=root.parent)
    assert len(list((root.parent / ".cache/mvmsr").glob("set-x4-*.mvmpack"))) == 1


def test_awkward_files_become_rgb(tmp_path: Path, picture):
    image = picture(24, 24)
    root = tmp_path / "set"
    root.mkdir()
    Image.fromarray(image).convert("L").save(root / "a_grey.png")
    Image.fromarray(np.dstack([image, image[..., :1]])).save(root / "b_alpha.png")
    cv2.imwrite(str(root / "c_16bit.png"), image[..., ::-1].astype(np.uint16) * 257)
    Image.fromarray(image).convert("CMYK").save(root / "d_cmyk.jpg", quality=100)
    Image.fromarray(image).quantize(64).save(root / "e_palette.png")
    data = open_set(root)
    assert data.names == ["a_grey", "b_alpha", "c_16bit", "d_cmyk", "e_palette"]
    np.testing.assert_array_equal(data.store.gt(2), image)
    for number, path in enumerate(sorted(root.iterdir())):
        np.testing.assert_array_equal(data.store.gt(number), read_rgb(path))
        assert data.crop(number, np.random.default_rng(0))[1].shape == (16, 16, 3)


def test_all_problems_are_listed_in_one_error(tmp_path: Path, picture):
    for name, sides in {"good": (32, 32), "tiny": (12, 40), "wrong": (32, 32)}.items():
        write_rgb(tmp_path / f"set/{name}.png", picture(*sides))
    (tmp_path / "set/broken.png").write_bytes(b"no picture")
    for name, sides in {"good": (8, 8), "tiny": (3, 10), "wrong": (16, 16), "broken": (8, 8)}.items():
        write_rgb(tmp_path / f"lr/{name}.png", picture(*sides))
    with pytest.raises(PairError) as caught:
        open_set(tmp_path / "set", dataroot_lq=str(tmp_path / "lr"))
    message = str(caught.value)
    assert message.startswith("3 images cannot be used:")
    assert "broken.png: is not an image" in message
    assert "tiny.png: 40x12 is smaller than gt_size 16; lower gt_size" in message
    assert "wrong.png: 16x16, expected 8x8 for wrong.png of 32x32 at x4" in message
    assert "good" not in message


@pytest.mark.parametrize(
    ("lows", "scale", "hint"),
    [
        ({"a": (16, 12), "b": (16, 20)}, 4, "all pairs fit scale: 2, not 4; correct scale, or dataroot_lq to a folder"),
        ({"a": (32, 24), "b": (32, 40)}, 4, "all pairs fit scale: 1, not 4"),
        ({"a": (16, 12), "b": (8, 10)}, 4, ""),  # one of each
        ({"a": (16, 12), "b": (15, 20)}, 4, ""),  # one of no scale
        ({"a": (16, 12), "b": None}, 4, "all pairs fit scale: 2"),  # unreadable
        ({"a": (8, 6), "b": (8, 10)}, 4, ""),  # gt_size is the problem
    ],
)
def test_pairs_of_another_scale_are_told_so(tmp_path: Path, picture, lows, scale: int, hint: str):
    for name, width in (("a", 24), ("b", 40)):
        write_rgb(tmp_path / f"set/{name}.png", picture(32, width))
        write_rgb(tmp_path / f"lr/{name}.png", picture(*(lows[name] or (8, 8))))
        if lows[name] is None:
            (tmp_path / f"lr/{name}.png").write_bytes(b"no picture")
    with pytest.raises(PairError) as caught:
        open_set(tmp_path / "set", dataroot_lq=str(tmp_path / "lr"), scale=scale, gt_size=28)
    assert ("all pairs fit" in str(caught.value)) == bool(hint)
    assert hint in str(caught.value)


def test_no_more_than_ten_problems_are_listed(made_set):
    root = made_set(count=13, sides=(8, 8))
    with pytest.raises(
        PairError, match=r"(?s)^13 images.*and 3 more\n[^\n]*gt_size up to 8; .*img1.png is the smallest$"
    ) as caught:
        open_set(root)
    assert str(caught.value).count("is smaller") == 10


def test_the_largest_size_that_all_pictures_allow_is_proposed(tmp_path: Path, picture):
    for name, sides in {"a": (64, 64), "b": (50, 39), "c": (46, 60)}.items():
        write_rgb(tmp_path / f"set/{name}.png", picture(*sides))
    with pytest.raises(
        PairError, match=r"2 images [\s\S]*\n  all images allow gt_size up to 36; .*b\.png is the smallest"
    ):
        open_set(tmp_path / "set", gt_size=48)
    write_rgb(tmp_path / "set/d.png", picture(3, 60))
    with pytest.raises(PairError, match=r"d\.png: 60x3 is too small for x4; take it out") as caught:
        open_set(tmp_path / "set", gt_size=48)
    assert "gt_size up to 36" in str(caught.value), "of those that can be used at all"


def test_small_pictures_are_found_in_an_existing_store_too(made_set):
    root = made_set()
    open_set(root)
    with pytest.raises(PairError, match=r"img1\.png: 56x48 is smaller than gt_size 64"):
        open_set(root, gt_size=64)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gt_size": 18}, ValueError, "multiple of scale 4, got 18; use 16"),
        ({"gt_size": 0}, ValueError, "use 4"),
        ({"scale": 0}, ValueError, "scale must be at least 1"),
        ({"dataroot_lq": ["set", "set"]}, ValueError, "1 folder in dataroot_gt, but 2 in dataroot_lq"),
        ({"dataroot_lq": "nowhere"}, LayoutError, "no data at 'nowhere'"),
    ],
)
def test_options_that_cannot_work(made_set, options: dict, error: type[Exception], message: str):
    root = made_set(count=1)
    with pytest.raises(error, match=message):
        open_set(root, data_root=root.parent, **options)
