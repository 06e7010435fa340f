"""The program that makes the built-in models' training pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from mvmsr.data.paired_dataset import PairedImageDataset


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("datasets/builtin_photos.py")


def test_tiles_cover_the_picture_but_for_flat_ones(program: ModuleType) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (700, 1000, 3), dtype=np.uint8)
    tiles = program.detailed_tiles(picture)
    assert len(tiles) == 9  # three rows of at most 320, three columns of at most 480
    assert sum(tile.size for tile in tiles) == picture.size
    assert max(tile.shape[0] for tile in tiles) <= 320
    assert max(tile.shape[1] for tile in tiles) <= 480
    picture[:233, :333] = 90
    assert len(program.detailed_tiles(picture)) == 8


def test_a_folder_is_reduced(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture = np.full((200, 100, 3), (10, 20, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), picture)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert program.reduce_all(tmp_path / "in", tmp_path / "out", 0.65) == 1
    reduced = cv2.imread(str(tmp_path / "out" / "a.png"))
    assert reduced.shape == (130, 65, 3)
    assert (reduced == picture[:130, :65]).all()


def test_low_quality_pictures_are_those_that_the_data_set_makes(program: ModuleType, tmp_path: Path) -> None:
    for folder in ("hq", "lq"):
        (tmp_path / folder).mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (83, 97, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "hq" / "a.png"), picture)
    assert program.low_quality(tmp_path / "hq", tmp_path / "lq") == 1
    dataset = PairedImageDataset(scale=4, dataroot_gt=str(tmp_path / "hq"), gt_size=80, cache_dir=str(tmp_path / "c"))
    made = dataset.crop_views(0, np.random.default_rng(0))[0].shape
    written = PairedImageDataset(
        scale=4, dataroot_gt=str(tmp_path / "hq"), dataroot_lq=str(tmp_path / "lq"), gt_size=80,
        cache_dir=str(tmp_path / "d"),
    )  # fmt: skip
    assert made == (20, 20, 3)
    for seed in range(4):  # other crops and symmetries
        low, high = (d.crop_views(0, np.random.default_rng(seed)) for d in (dataset, written))
        assert all(np.array_equal(a, b) for a, b in zip(low, high, strict=True))


def test_another_version_of_a_package_is_refused(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "palapeli-data_9.deb").write_bytes(b"other")
    with pytest.raises(SystemExit, match="another version of palapeli-data"):
        program.tiles_of_package("palapeli-data", program.PACKAGES["palapeli-data"], tmp_path, tmp_path / "out")
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"broken\.png is not an image"):
        program.read(tmp_path / "broken.png")
