from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from benchmark_results import picture, save_benchmark, small_results
from PIL import Image

from mvmsr.benchmark.results import Results
from mvmsr.data.image_io import write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.report.benchmark_originals import Originals
from mvmsr.report.benchmark_pictures import Place, compare_pictures, places, ranking


def pixels(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))


def no_original(set_name: str, image: str) -> None:
    return None


def test_the_squares_that_differ_most_are_found_and_lie_apart() -> None:
    one = np.zeros((60, 80, 3), np.uint8)
    other, third = one.copy(), one.copy()
    other[10:20, 30:40] = 90
    third[40:50, 5:15] = 200
    assert places([one, other, third], 10, most=3) == [Place(5, 40, 10), Place(30, 10, 10)]
    assert places([one, one], 10) == []


def test_places_agree_with_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    pair = [rng.integers(0, 256, (23, 31, 3)).astype(np.uint8) for _ in range(2)]
    difference = np.abs(pair[0].astype(int) - pair[1]).mean(axis=2)
    means = {(x, y): difference[y : y + 7, x : x + 7].mean() for y in range(17) for x in range(25)}
    x, y = max(means, key=lambda place: means[place])
    assert places(pair, 7, 1) == [Place(x, y, 7)]


def test_pictures_that_methods_disagree_on_come_first() -> None:
    # Ranges of PSNR: a2 4, a1 1, a3 1; of NIQE: a2 4, a3 0.5, a1 0.1. Pictures before each: a2 0+0, a3 1+1, a1 1+2.
    assert ranking(small_results(), "A") == ["a2", "a3", "a1"]


def test_one_method_shows_its_worst_pictures_first() -> None:
    assert ranking(small_results(("bicubic",)), "A") == ["a1", "a3", "a2"]


def test_bicubic_takes_no_part_where_two_others_can_be_compared() -> None:
    results = small_results()
    for row in [row for row in results["images"] if row["method"] == "mine"]:
        results["images"].append({**row, "method": "other", "psnr": row["psnr"] + (5 if row["image"] == "a3" else 0)})
    assert ranking(results, "A")[0] == "a3"


def test_versions_crops_and_places(tmp_path: Path) -> None:
    out = save_benchmark(tmp_path)
    found, notes = compare_pictures(small_results(), [out], Originals([out], 4))
    assert notes == []
    assert [(one.set, one.image) for one in found] == [("A", "a2"), ("A", "a3"), ("A", "a1"), ("B", "b1")]
    first = found[0]
    assert (first.width, first.height, first.cut) == (128, 96, False)
    assert [version.name for version in first.versions] == ["bicubic", "mine", "original"]
    assert first.places == (Place(80, 32, 32),)
    mine = picture(60)
    mine[32:64, 80:112] += 100
    assert np.array_equal(pixels(first.versions[1].crops[0]), mine[32:64, 80:112])
    assert np.array_equal(pixels(first.versions[2].crops[0]), picture(62)[32:64, 80:112])
    assert np.abs(pixels(first.versions[0].uri).astype(int) - picture(60)).mean() < 3


def test_large_pictures_are_cut_around_the_greatest_difference_and_never_resized(tmp_path: Path) -> None:
    results = small_results()
    results["images"] = [row for row in results["images"] if row["image"] == "a1"]
    restored = np.full((700, 900, 3), 50, np.uint8)
    write_rgb(tmp_path / "images" / "bicubic" / "A" / "a1.png", restored)
    restored[650:690, 20:60] = 250
    write_rgb(tmp_path / "images" / "mine" / "A" / "a1.png", restored)
    [one], notes = compare_pictures(results, [tmp_path], no_original)
    assert (one.width, one.height, one.cut) == (640, 480, True)
    assert notes == ["the originals of A were not found, so they are not shown"]
    place = one.places[0]
    assert place.x <= 20
    assert place.x + place.side >= 60
    assert place.y <= 650 - (700 - 480)
    assert (pixels(one.versions[1].crops[0]) == 250).sum() == 40 * 40 * 3


def test_bicubic_is_made_from_the_original_where_it_is_no_method(tmp_path: Path) -> None:
    results = small_results(("mine",))
    out = save_benchmark(tmp_path, results)
    found, _ = compare_pictures(results, [out], Originals([out], 4))
    assert [version.name for version in found[0].versions] == ["bicubic", "mine", "original"]
    place = found[0].places[0]
    expected = imresize(imresize(picture(62), scale=0.25), scale=4)
    crop = expected[place.y : place.y + place.side, place.x : place.x + place.side]
    assert np.array_equal(pixels(found[0].versions[0].crops[0]), crop)
    results = small_results(("mine",), lq="file")  # unknown low-quality files: their bicubic is not what we would make
    found, _ = compare_pictures(results, [out], Originals([out], 4))
    assert [version.name for version in found[0].versions] == ["mine", "original"]


def test_the_budget_is_kept_and_shared_by_the_sets(tmp_path: Path) -> None:
    out = save_benchmark(tmp_path)
    everything, _ = compare_pictures(small_results(), [out], Originals([out], 4))
    budget = everything[0].size + everything[3].size
    found, _ = compare_pictures(small_results(), [out], Originals([out], 4), budget)
    assert [(one.set, one.image) for one in found] == [("A", "a2"), ("B", "b1")]
    assert sum(one.size for one in found) <= budget


@pytest.mark.parametrize(
    ("method", "expected"),
    [("mine", "mine has no images of B in "), ("bicubic", "bicubic has no images of B in ")],
)
def test_a_method_without_pictures_is_named(method: str, expected: str, tmp_path: Path) -> None:
    out = save_benchmark(tmp_path)
    (out / "images" / method / "B" / "b1.png").unlink()
    found, notes = compare_pictures(small_results(), [out], Originals([out], 4))
    assert any(note.startswith(expected) and str(out / "images") in note for note in notes)
    assert len(found) == 4


def test_pictures_that_cannot_be_read_or_fit_are_notes(tmp_path: Path) -> None:
    out = save_benchmark(tmp_path)
    (out / "images" / "mine" / "B" / "b1.png").write_bytes(b"\x89PNG broken")
    write_rgb(out / "originals" / "A" / "a1.png", picture(1, 20, 20))
    found, notes = compare_pictures(small_results(), [out], Originals([out], 4))
    assert "the original of A, a1 has another size than the results, so it is not shown" in notes
    assert any("b1.png" in note for note in notes)
    assert [version.name for version in found[2].versions] == ["bicubic", "mine"]


def test_originals_come_from_the_set_cut_to_the_scale_and_are_kept(tmp_path: Path) -> None:
    odd = picture(80, 99, 130)
    write_rgb(tmp_path / "data" / "A" / "a1.png", odd)
    originals = Originals([tmp_path / "out"], 4, data_root=tmp_path / "data", keep=True)
    found = originals("A", "a1")
    assert found is not None
    assert np.array_equal(found, odd[:96, :128])
    assert originals("A", "nosuch") is None
    assert originals("nosuch", "a1") is None
    kept = Originals([tmp_path / "out"], 4, data_root=tmp_path)("A", "a1")
    assert kept is not None
    assert np.array_equal(kept, found)


def test_originals_are_those_of_the_set_that_is_measured_now(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for value, scale in ((1, 4), (90, 3)):
        write_rgb(tmp_path / "data" / "A" / "a1.png", picture(value, 25, 25))
        found = Originals([out], scale, data_root=tmp_path / "data", keep=True)("A", "a1")
        assert found is not None
        assert np.array_equal(found, picture(value, 25, 25)[:24, :24])
    kept = Originals([out], 3, data_root=tmp_path / "none", keep=True)("A", "a1")
    assert np.array_equal(kept, found)


def test_a_set_that_was_named_by_its_folder_is_found_there(tmp_path: Path) -> None:
    write_rgb(tmp_path / "far" / "away" / "x.png", picture(1))
    folder = str(tmp_path / "far" / "away")
    assert Originals([tmp_path], 4, sets=[folder], data_root=tmp_path / "none")("away", "x") is not None


def test_later_folders_are_asked_first(tmp_path: Path) -> None:
    results: Results = small_results()
    for name, value in (("old", 10), ("new", 90)):
        save_benchmark(tmp_path / name)
        write_rgb(tmp_path / name / "images" / "bicubic" / "A" / "a2.png", picture(value))
    found, _ = compare_pictures(results, [tmp_path / "old", tmp_path / "new"], no_original)
    place = found[0].places[0]
    assert pixels(found[0].versions[0].crops[0])[0, 0, 0] == 90 + place.x // 2


def test_an_original_that_was_kept_and_cannot_be_read_is_none(tmp_path: Path) -> None:
    save_benchmark(tmp_path)
    kept = tmp_path / "originals" / "A" / "a1.png"
    kept.write_bytes(kept.read_bytes()[:40])
    assert Originals([tmp_path], 4, data_root=tmp_path)("A", "a1") is None
