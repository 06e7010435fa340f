"""Well-known sets are known by their pictures: exact copies, other copies, other sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mvmsr.cli.datasets import app
from mvmsr.data import known_pictures, prepare
from mvmsr.data.image_io import write_rgb
from mvmsr.data.known_pictures import compare, fingerprint, fingerprints, known_name
from mvmsr.data.prepare import PrepareError, adopt, known_sets


def noise(seed: int, height: int = 33, width: int = 42) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _set5(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set5 is three pictures of noise here."""
    ours = {"Set5": {str(k): fingerprint(noise(k)) for k in range(3)}}
    for module in (known_pictures, prepare):
        monkeypatch.setattr(module, "fingerprints", lambda: ours)


def folder(root: Path, *pictures: np.ndarray) -> Path:
    for number, picture in enumerate(pictures):
        write_rgb(root / f"pic{number}.png", picture)
    return root


def test_copies_cut_to_a_multiple_of_four_under_other_names_are_the_set(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", noise(2), noise(0)[:32, :40], noise(1))
    target = adopt(known_sets()["Set5"], mine, tmp_path / "root")
    assert target == tmp_path / "root/Set5"
    assert prepare.check(target).notes == ()


def test_another_copy_is_taken_with_a_note(tmp_path: Path) -> None:
    again = noise(1)
    again[0, 0] ^= 1
    mine = folder(tmp_path / "mine", noise(0), again, noise(2)[:24, :36])
    adopt(known_sets()["Set5"], mine, tmp_path / "root")
    (note,) = prepare.check(tmp_path / "root/Set5").notes
    assert note.startswith("1 of the 3 images of Set5 agree pixel by pixel")
    assert note.endswith("Different: pic1.png, pic2.png")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "root/Set5")])
    assert (result.exit_code, "1 of the 3 images" in result.output) == (0, True)


@pytest.mark.parametrize(
    "pictures",
    [
        [noise(7), noise(8, 80, 80), noise(9)],  # other sizes
        [noise(0), noise(1)],  # some lacking
        [noise(k) for k in range(4)],  # too many
    ],
)
def test_another_set_is_refused(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    mine = folder(tmp_path / "mine", *pictures)
    with pytest.raises(PrepareError, match=r"this is not Set5, which has 3 images.*of the 3 images of Set5 agree"):
        adopt(known_sets()["Set5"], mine, tmp_path / "root")
    assert not (tmp_path / "root").exists()
    mine.rename(tmp_path / "set5")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "set5")])
    assert (result.exit_code, "this is not Set5" in result.output) == (1, True)


def test_names_and_unreadable_pictures(tmp_path: Path) -> None:
    assert known_name(tmp_path / "SET5") == "Set5"
    assert known_name(tmp_path / "mine") is None
    mine = folder(tmp_path / "mine", noise(0), noise(1))
    (mine / "z.png").write_bytes(b"no picture")
    verdict = compare("Set5", sorted(mine.iterdir()))
    assert (verdict.same, verdict.others, verdict.fits) == (2, ("z.png",), False)


def test_div2k_is_found_from_its_folder_or_the_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_count", lambda path: 800 if list(path.glob("*.png")) else 0)
    high = folder(tmp_path / "DIV2K_train_HR", noise(0))
    inner = adopt(known_sets()["DIV2K"], high, tmp_path / "one")
    assert inner == tmp_path / "one/DIV2K/DIV2K_train_HR"
    assert inner.resolve() == high
    outer = adopt(known_sets()["DIV2K"], tmp_path, tmp_path / "two")
    assert (outer / "DIV2K_train_HR").resolve() == high
    monkeypatch.undo()
    with pytest.raises(PrepareError, match=r"is not DIV2K: expected a folder with DIV2K_train_HR.*found 1 in"):
        adopt(known_sets()["DIV2K"], high, tmp_path / "three")


def test_ours_are_of_all_four_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    ours = known_pictures.fingerprints()
    assert ours is fingerprints()
    assert {name: len(set(marks.values())) for name, marks in ours.items()} == {
        "Set5": 5,
        "Set14": 14,
        "BSD100": 100,
        "Urban100": 100,
    }
    assert ours["Set5"]["img_001"] == "512x512 f14d515486b1a110"
