"""What the doctor says of the pictures that a run is trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mvmsr.cli import doctor
from mvmsr.data.image_io import read_rgb, write_rgb

OPTIONS = """\
name: small
datasets:
  train: {dataroot_gt: mine, gt_size: 32}
  val: {name: held, dataroot_gt: held}
network_g: {type: SRResNet, num_feat: 4, num_block: 1, bn: false}
train: {total_iter: 100, pixel_opt: {type: L1Loss}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that has just begun, its six training pictures, and three held-out ones."""
    monkeypatch.setenv("MVMSR_DATA_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (8, 10, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        write_rgb(tmp_path / ("mine" if number < 6 else "held") / f"p{number}.png", blocks)
    folder = tmp_path / "experiments" / "small"
    folder.mkdir(parents=True)
    (folder / "options.yml").write_text(OPTIONS)
    (folder / "stats.jsonl").write_text('{"iter": 1, "loss_g/pixel": 0.5}\n')
    return folder


def _data_findings(run: Path, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    app = typer.Typer()
    app.command()(doctor.command)
    result = CliRunner().invoke(app, [str(run), "--json", *arguments])
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(result.output)["findings"]:
        if finding["section"] == "Data":
            found.setdefault(finding["name"], []).append(finding)
    return found


def test_sound_pictures(run: Path) -> None:
    found = _data_findings(run)
    assert {name: finding["state"] for name, (finding,) in found.items()} == {
        "training images": "ok",
        "duplicates": "ok",
        "benchmark images": "ok",
    }
    assert found["training images"][0]["text"].startswith("6 images with sides of 64 to 80 pixels, patches of 32;")
    assert "none of the 3 images of held is among" in found["benchmark images"][0]["text"]


def test_low_quality_pictures_are_not_looked_at_where_they_are_not_used(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").rename(tmp_path / "HR")
    (tmp_path / "mine" / "LR_bicubic" / "X4").mkdir(parents=True)
    (tmp_path / "HR").rename(tmp_path / "mine" / "HR")
    assert _data_findings(run)["training images"][0]["state"] == "missing"
    (run / "options.yml").write_text(
        OPTIONS.replace("{dataroot_gt: mine", "{type: RealESRGANDataset, dataroot_gt: mine")
    )
    found = _data_findings(run)["training images"][0]
    assert (found["state"], found["values"]) == ("ok", {"pictures": 6, "pairs": 0})


def test_the_look_at_the_pictures_can_be_left_out(run: Path) -> None:
    assert _data_findings(run, "--no-data") == {}


def test_copies_are_named(run: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "mine" / "p1.png", tmp_path / "mine" / "again.png")
    write_rgb(tmp_path / "mine" / "leak.png", np.ascontiguousarray(read_rgb(tmp_path / "held" / "p7.png")[:, ::-1]))
    found = _data_findings(run)
    (twice,), (leak,) = found["duplicates"], found["benchmark images"]
    assert twice["state"] == leak["state"] == "note"
    assert "again=p1" in twice["text"]
    assert leak["text"].startswith("1 training image like a held-out one: held/p7 is leak (1.00)")
    assert [Path(path).name for path in leak["values"]["matches"][0][1:]] == ["p7.png", "leak.png"]


def test_a_benchmark_set_below_the_data_root_is_compared(run: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "mine", tmp_path / "Set5")
    text = _data_findings(run)["benchmark images"][0]["text"]
    assert text.startswith("6 training images like a held-out one: Set5/p")
    assert text.endswith("and 1 more")


def test_pictures_that_stop_a_training_are_broken(run: Path, tmp_path: Path) -> None:
    write_rgb(tmp_path / "mine" / "p2.png", np.zeros((16, 64, 3), np.uint8))
    (tmp_path / "mine" / "p3.png").write_bytes(b"no picture")
    found = _data_findings(run)
    assert set(found) == {"training images"}
    assert [finding["state"] for finding in found["training images"]] == ["broken", "broken"]
    assert any("p2" in f["text"] and "smaller than gt_size 32" in f["text"] for f in found["training images"])


def test_a_picture_that_breaks_off_is_broken(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "p3.png"
    path.write_bytes(path.read_bytes()[:-40])  # its header says nothing of that
    found = _data_findings(run)
    assert "broken" in {finding["state"] for finding in found["training images"]}
    assert any("p3" in finding["text"] for finding in found["training images"])


def test_pictures_that_are_not_here_are_missing(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "mine")
    (finding,) = _data_findings(run)["training images"]
    assert finding["state"] == "missing"
    assert "--data-root" in finding["remedy"]


def test_a_data_set_that_is_not_registered_here_is_not_looked_at(run: Path) -> None:
    (run / "options.yml").write_text(OPTIONS.replace("{dataroot_gt: mine", "{type: Somebodys, dataroot_gt: mine"))
    (found,) = _data_findings(run)["training images"]
    assert found["state"] == "note"
    assert "Somebodys is not one of ours" in json.dumps(found)
