from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_records import mvm_records

from mvmsr.report.curves import groups
from mvmsr.report.embeddings import figures, project, read_embeddings
from mvmsr.report.run_files import read_run
from mvmsr.report.run_page import build_report


@pytest.fixture
def embedded_run(make_run: Callable[..., Path]) -> Path:
    run = make_run("mvm", mvm_records())
    (run / "embeddings").mkdir()
    rng = np.random.default_rng(0)
    for iteration in (10, 20, 30, 40):
        gt, sr = rng.normal(size=(2, 20, 3)).astype(np.float32)
        np.savez(run / "embeddings" / f"{iteration:08d}.npz", gt=gt, sr=sr)
    return run


def test_pca_by_hand():
    # Along (3, 4)/5 with lengths -1, 0, 1 and nothing else; signs are free.
    points, method = project(np.array([[-0.6, -0.8, 7], [0, 0, 7], [0.6, 0.8, 7]]))
    assert method == "PCA"
    assert np.allclose(np.abs(points), [[1, 0], [0, 0], [1, 0]], atol=1e-9)
    assert points[0, 0] == pytest.approx(-points[2, 0])


def test_embeddings_of_one_dimension_have_a_map_too():
    points, _ = project(np.array([[0.0], [2.0]]))
    assert points.shape == (2, 2)
    assert np.allclose(points[:, 1], 0)


def test_first_middle_and_last_spectrum_and_the_last_map(embedded_run: Path):
    drawn, notes, shown = figures([read_run(embedded_run)], "e")
    assert (notes, shown) == ([], {0})
    assert [figure["title"].partition(" ")[0] for figure in drawn] == ["ten", "ten", "real"]
    for label in ("after 10", "after 30", "after 40"):
        assert label in drawn[0]["svg"]
    assert "after 40 iterations, by PCA" in drawn[2]["title"]
    assert len(re.findall("<use ", drawn[2]["svg"])) >= 40  # 20 patches twice


def test_a_damaged_file_is_said_and_the_rest_is_shown(embedded_run: Path):
    (embedded_run / "embeddings" / "00000040.npz").write_bytes(b"junk")
    np.savez(embedded_run / "embeddings" / "00000050.npz", gt=np.full((2, 2), np.nan), sr=np.zeros((2, 2)))
    found, notes = read_embeddings(embedded_run)
    assert [e.iteration for e in found] == [10, 20, 30]
    assert ["00000040" in notes[0], "00000050" in notes[1]] == [True, True]


@pytest.mark.parametrize("kept", [60, 700])
def test_a_file_that_is_cut_off_is_said_too(kept: int, embedded_run: Path):
    path = embedded_run / "embeddings" / "00000040.npz"
    path.write_bytes(path.read_bytes()[:kept])
    found, notes = read_embeddings(embedded_run)
    assert [e.iteration for e in found] == [10, 20, 30]
    assert "00000040.npz cannot be read" in notes[0]


@pytest.mark.parametrize("points", [np.zeros((0, 3), np.float32), np.zeros((4, 3), np.int64)])
def test_arrays_that_are_no_embeddings_are_said_too(points: np.ndarray, embedded_run: Path):
    np.savez(embedded_run / "embeddings" / "00000040.npz", gt=points, sr=points)
    drawn, notes, _ = figures([read_run(embedded_run)], "e")
    assert "no two finite arrays" in notes[0]
    assert "after 30 iterations" in drawn[2]["title"]


def test_they_are_on_the_page_only_where_there_are_any(embedded_run: Path, make_run: Callable[..., Path]):
    assert "The embedding space" in build_report([embedded_run])
    assert "The embedding space" not in build_report([make_run("other", mvm_records())])


def test_held_out_values_have_a_group_of_their_own(make_run: Callable[..., Path]):
    record = {"iter": 40, "held_out/triplet": 0.4, "held_out/diam2_gt": 1.5, "held_out/d_h": 2.0}
    run = read_run(make_run("held", [*mvm_records(), {**record, "held_out/matching_share": 0.1}]))
    found = {group.key: [panel.title for panel in group.panels] for group in groups([run])}
    assert found["held_out"] == [
        "loss: triplet",
        "diam2_gt",
        "d_h: Hausdorff",
        "gradient of the matching terms / of the pixel terms",
    ]
    assert "other" not in found
