from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvmsr.report.pictures import MOST_PICTURES, data_uri, galleries
from mvmsr.report.run_files import read_run


def decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_first_middle_and_last_result_stand_between_bicubic_and_original(
    make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray]
) -> None:
    run = make_run("mvm")
    for iteration in (20, 100, 40, 80, 60):
        add_sample(run, iteration, sr=iteration)
    found, notes = galleries([read_run(run)])
    assert notes == []
    (gallery,) = found
    assert gallery.title == "Set5 bird"
    (row,) = gallery.rows
    captions = ["bicubic", "20 iterations", "60 iterations", "100 iterations", "original"]
    assert [tile.caption for tile in row] == captions
    for tile, value in zip(row, (50, 20, 60, 100, 200), strict=True):
        np.testing.assert_array_equal(decode(tile.uri), np.full((8, 8, 3), value))
        assert (tile.width, tile.height) == (8, 8)
    assert row[2].alt == "Set5 bird, restored by mvm after 60 iterations"


@pytest.mark.parametrize(("count", "shown"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 3, 4])])
def test_no_result_is_shown_twice(
    make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray], count: int, shown: list[int]
) -> None:
    run = make_run("mvm")
    for iteration in range(1, count + 1):
        add_sample(run, iteration)
    tiles = galleries([read_run(run)])[0][0].rows[0][1:-1]
    assert [tile.caption for tile in tiles] == ["1 iteration" if n == 1 else f"{n} iterations" for n in shown]


def test_runs_are_compared_by_their_last_results(
    make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray]
) -> None:
    one, two = make_run("one"), make_run("two")
    for run in (one, two):
        add_sample(run, 20)
        add_sample(run, 40)
    (gallery,) = galleries([read_run(one), read_run(two)])[0]
    assert [[tile.caption for tile in row] for row in gallery.rows] == [
        ["bicubic", "one, 40 iterations", "two, 40 iterations", "original"],
        ["one, 20 iterations", "two, 20 iterations"],
    ]
    alone = galleries([read_run(one), read_run(make_run("three"))])[0][0]
    assert [tile.caption for tile in alone.rows[0][1:-1]] == ["one, 20 iterations", "one, 40 iterations"]


def test_results_of_another_original_are_not_mixed(
    make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray]
) -> None:
    one, two = make_run("one"), make_run("two")
    add_sample(one, 20, gt=200)
    add_sample(two, 20, gt=201)
    found = galleries([read_run(one), read_run(two)])[0]
    assert [gallery.title for gallery in found] == ["Set5 bird (one)", "Set5 bird (two)"]
    assert decode(found[1].rows[0][-1].uri).max() == 201


def test_files_that_are_no_samples_are_said_or_passed_over(
    make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray]
) -> None:
    run = make_run("mvm")
    strip = add_sample(run, 20)
    samples = run / "samples"
    (samples / "00000040_Set5_bird.png").write_bytes(b"cut off")
    Image.fromarray(strip[:, :-1]).save(samples / "00000060_Set5_bird.png")
    (samples / "00000020").mkdir()
    (samples / "readme.txt").touch()
    found, notes = galleries([read_run(run)])
    assert [tile.caption for tile in found[0].rows[0]] == ["bicubic", "20 iterations", "original"]
    assert len(notes) == 2
    assert "00000040_Set5_bird.png" in notes[0]
    assert "23 pixels wide" in notes[1]


def test_many_pictures_are_not_all_put_in(make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray]) -> None:
    run = make_run("mvm")
    for number in range(MOST_PICTURES + 2):
        add_sample(run, 20, name=f"Set5_{number:02d}")
    found, notes = galleries([read_run(run)])
    assert len(found) == MOST_PICTURES
    assert notes == ["2 further images are in the runs' samples folders"]
    assert galleries([read_run(make_run("none"))]) == ([], [])


def test_large_pictures_are_compressed_and_still_look_alike() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)
    picture = np.asarray(coarse)
    uri = data_uri(picture)
    assert uri.startswith("data:image/webp;base64,")
    assert np.abs(decode(uri).astype(int) - picture).mean() < 4
    assert data_uri(np.zeros((256, 256, 3), np.uint8)).startswith("data:image/png;base64,")
