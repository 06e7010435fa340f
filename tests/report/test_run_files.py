from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from mvmsr.report.run_files import ReportError, read_run, read_runs, read_stats


def test_a_run_tells_its_name_its_options_and_who_wrote_it(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run("mvm", [{"iter": 3, "x": 1.5}, {"iter": 6, "y": 2}]))
    assert run.label == "mvm"
    assert run.option("train", "pair_opt", "loss_weight") == 0.001
    assert run.option("train", "nothing", "here", default=5) == 5
    assert run.option("name", "too", "deep") is None
    assert run.written_by == "mvmsr 0.1.0; mvmsr train -opt some.yml"
    assert run.iteration == 6
    assert run.keys() == ["x", "y"]
    assert run.series("y") == ([6], [2.0])
    assert run.notes == ()


def test_values_that_were_not_finite_are_noted(make_run: Callable[..., Path]) -> None:
    root = make_run("mvm", [{"iter": 3, "x": 1.5}])
    for name in ("00012345_generator", "00000004_metric_network"):
        (root / "nonfinite" / name).mkdir(parents=True)
    found = "iteration 4 (metric network), 12,345 (generator); nonfinite/ has the images and values"
    assert read_run(root).notes == (f"a value was not finite in {found}",)


def test_a_last_line_without_its_end_is_left_out_silently(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text('{"iter": 1, "x": 1}\n{"iter": 2, "x"')
    assert read_stats(path) == ([{"iter": 1, "x": 1}], [])


def test_a_last_line_without_its_end_that_is_whole_counts(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text('{"iter": 1}\n{"iter": 2}')
    assert [record["iter"] for record in read_stats(path)[0]] == [1, 2]


@pytest.mark.parametrize("line", ["{", "[1]", '{"x": 1}', '{"iter": "1"}', "\x00\x00", "7"])
def test_damaged_lines_are_counted_and_later_ones_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_text(f'{{"iter": 1}}\n{line}\n{{"iter": 3}}\n')
    records, problems = read_stats(path)
    assert [record["iter"] for record in records] == [1, 3]
    assert problems == ["stats.jsonl: line 2 cannot be read and is left out"]


def test_bytes_that_are_no_text_are_damage_too(tmp_path: Path) -> None:
    path = tmp_path / "stats.jsonl"
    path.write_bytes(b'{"iter": 1}\n\xff\xfe\n{"iter": \xff\n')
    assert read_stats(path)[1] == ["stats.jsonl: lines 2, 3 cannot be read and are left out"]


def test_values_that_are_not_finite_stay_and_those_that_are_no_numbers_go(tmp_path: Path) -> None:
    (tmp_path / "stats.jsonl").write_text(
        json.dumps({"iter": 1, "x": math.nan, "flag": True, "text": "a", "none": None}) + "\n"
    )
    run = read_run(tmp_path)
    assert run.keys() == ["x"]
    assert math.isnan(run.series("x")[1][0])


def test_missing_and_damaged_parts_become_notes(make_run: Callable[..., Path]) -> None:
    assert "nothing has been logged yet" in read_run(make_run("a")).notes[0]
    without = read_run(make_run("b", [{"iter": 1}], options=None))
    assert without.label == "b"
    assert "options.yml is missing" in without.notes[0]
    damaged = read_run(make_run("c", [{"iter": 1}], options="name: [\n"))
    assert damaged.label == "c"
    assert "the options cannot be read" in damaged.notes[0]
    assert damaged.options_text == "name: [\n"


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "nowhere does not exist"), ("file", "file is a file"), ("empty", "empty is no run directory")],
)
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match=message):
        read_run(tmp_path / path)


def test_runs_are_read_once_and_equal_names_are_told_apart(make_run: Callable[..., Path], tmp_path: Path) -> None:
    one, two = make_run("one", options="name: same\n"), make_run("two", options="name: same\n")
    labels = [run.label for run in read_runs([one, one / ".." / "one", two])]
    assert labels == [f"same ({one})", f"same ({two})"]
