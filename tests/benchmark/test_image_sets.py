from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvmsr.benchmark import image_sets
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.data.layouts import ImagePair, LayoutError


def picture(seed: int, height: int = 30, width: int = 41) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_made_low_quality(tmp_path: Path) -> None:
    for seed in range(2):
        write_rgb(tmp_path / "Tiny" / f"p{seed}.png", picture(seed))
    image_set = load_image_set("Tiny", data_root=tmp_path, scale=4)
    assert (image_set.name, image_set.scale, len(image_set)) == ("Tiny", 4, 2)
    lq, gt = image_set.load(image_set.pairs[1])
    assert np.array_equal(gt, picture(1)[:28, :40])  # cut to multiples of 4 at the bottom and right
    assert np.array_equal(lq, imresize(picture(1)[:28, :40], scale=0.25))


def test_files_of_the_set(tmp_path: Path) -> None:
    folder = tmp_path / "image_SRF_4"
    write_rgb(folder / "img_001_SRF_4_HR.png", picture(0, 28, 40))
    write_rgb(folder / "img_001_SRF_4_LR.png", picture(1, 7, 10))
    made, read = (load_image_set(tmp_path, scale=4, lq=lq) for lq in ("make", "file"))
    assert np.array_equal(read.load(read.pairs[0])[0], picture(1, 7, 10))
    assert np.array_equal(made.load(made.pairs[0])[0], imresize(picture(0, 28, 40), scale=0.25))
    assert made.pairs[0].name == "img_001"


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rgb(tmp_path / "a.png", picture(0))
    write_rgb(tmp_path / "b.png", picture(1))
    reads: list[Path] = []
    original = image_sets.read_rgb
    monkeypatch.setattr(image_sets, "read_rgb", lambda path: (reads.append(path), original(path))[1])
    image_set = load_image_set(tmp_path, scale=2)
    for pair in image_set.pairs * 3:
        image_set.load(pair)
    assert len(reads) == 2
    monkeypatch.setattr(image_sets, "GT_CACHE_MIB", 0)
    uncached = load_image_set(tmp_path, scale=2)
    first, second = uncached.load(uncached.pairs[0]), uncached.load(uncached.pairs[0])
    assert len(reads) == 4
    assert np.array_equal(first[0], second[0])


def test_as_many_pictures_are_kept_as_the_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write_rgb(tmp_path / f"{name}.png", np.zeros((400, 400, 3), np.uint8))  # 0.46 MiB each
    reads: list[str] = []
    original = image_sets.read_rgb
    monkeypatch.setattr(image_sets, "read_rgb", lambda path: (reads.append(path.stem), original(path))[1])
    monkeypatch.setattr(image_sets, "GT_CACHE_MIB", 1)
    image_set = load_image_set(tmp_path, scale=4)
    for pair in image_set.pairs * 2:
        image_set.load(pair)
    assert reads == ["a", "b", "c", "c"]


def test_the_working_directory_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rgb(tmp_path / "Mine" / "a.png", picture(0))
    monkeypatch.chdir(tmp_path / "Mine")
    assert load_image_set(".").name == "Mine"


def test_making_low_quality_asks_for_no_files(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    for name in ("a_SRF_4_HR", "b_SRF_4_HR"):
        write_rgb(tmp_path / f"Mine/image_SRF_4/{name}.png", picture)
    write_rgb(tmp_path / "Mine/image_SRF_4/a_SRF_4_LR.png", picture[:4, :4])
    assert [pair.lq for pair in load_image_set("Mine", tmp_path).pairs] == [None, None]
    with pytest.raises(LayoutError, match="do not pair up"):
        load_image_set("Mine", tmp_path, lq="file")
    (tmp_path / "Mine/image_SRF_4/a_SRF_4_LR.png").unlink()
    with pytest.raises(LayoutError, match=r"no low-quality file for 2 of 2 images in .*, a first; use lq: make"):
        load_image_set("Mine", tmp_path, lq="file")


def test_low_quality_files_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write_rgb(tmp_path / "GTmod12" / "a.png", picture(0, 28, 40))
    write_rgb(tmp_path / "blurry" / "ax4.png", picture(1, 7, 10))
    image_set = load_image_set("GTmod12", data_root=tmp_path, lq="blurry")
    assert np.array_equal(image_set.load(image_set.pairs[0])[0], picture(1, 7, 10))
    with pytest.raises(ValueError, match=r"lq is 'blury'; use 'make' .* or a folder"):
        load_image_set("GTmod12", data_root=tmp_path, lq="blury")


def test_refusals(tmp_path: Path) -> None:
    write_rgb(tmp_path / "plain" / "a.png", picture(0))
    with pytest.raises(LayoutError, match=r"no low-quality file for 1 of 1 image in .*, a first"):
        load_image_set("plain", data_root=tmp_path, lq="file")
    with pytest.raises(LayoutError, match="no data at 'absent'"):
        load_image_set("absent", data_root=tmp_path)
    with pytest.raises(ValueError, match="use 'make'"):
        load_image_set("plain", data_root=tmp_path, lq="maek")
    folder = tmp_path / "image_SRF_4"
    write_rgb(folder / "x_SRF_4_HR.png", picture(0, 28, 40))
    write_rgb(folder / "x_SRF_4_LR.png", picture(1, 7, 11))
    wrong = load_image_set(tmp_path, scale=4, lq="file")
    with pytest.raises(ValueError, match=r"x_SRF_4_LR.png is 11x7; expected 10x7, 1/4 of x_SRF_4_HR.png"):
        wrong.load(wrong.pairs[0])
    write_rgb(tmp_path / "small" / "a.png", picture(0, 3, 9))
    small = load_image_set("small", data_root=tmp_path)
    with pytest.raises(ValueError, match="too small for x4"):
        small.load(small.pairs[0])


def test_a_low_quality_file_of_a_cut_original_is_taken(tmp_path: Path) -> None:
    gt = np.random.default_rng(0).integers(0, 256, (131, 140, 3), dtype=np.uint8)
    write_rgb(tmp_path / "gt.png", gt)
    for height, width, fits in (
        (30, 33, True),
        (32, 35, True),
        (29, 33, False),
        (33, 35, False),
        (16, 17, False),
        (31, 36, False),
    ):
        path = tmp_path / f"{height}x{width}.png"
        write_rgb(path, np.zeros((height, width, 3), np.uint8))
        pair = ImagePair("a", tmp_path / "gt.png", path)
        image_set = ImageSet("made", (pair,), 4)
        if not fits:
            with pytest.raises(ValueError, match="expected 35x32"):
                image_set.load(pair)
            continue
        for _ in range(2):  # the second time from memory
            lq, cut = image_set.load(pair)
            assert lq.shape[:2] == (height, width)
            assert np.array_equal(cut, gt[: height * 4, : width * 4])
