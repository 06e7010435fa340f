from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mvmsr.benchmark.compare import compare_files, file_labels
from mvmsr.benchmark.evaluate import ImageScore
from mvmsr.benchmark.results import Results, ResultsError, make_results, read_results, write_results
from mvmsr.benchmark.statistics_table import statistics_markdown
from mvmsr.benchmark.table import title_of
from mvmsr.cli import app
from mvmsr.metrics import Psnr, Ssim, make_protocol

BICUBIC = [28.0, 29.0, 30.0, 31.0, 32.0, 33.0]
BETTER = [28.5, 29.4, 30.6, 31.5, 32.4, 33.6]
WORSE = [28.2, 29.1, 30.3, 31.2, 32.1, 33.3]


def results(
    scores: Mapping[str, Sequence[float | None]], protocol: str = "y", set_name: str = "Set5", **about: Any
) -> Results:
    """PSNRs by method."""
    listed = [
        ImageScore(method, set_name, f"img_{number}", {"psnr": psnr}, 0.1)
        for method, values in scores.items()
        for number, psnr in enumerate(values)
    ]
    methods = [{"name": name, "source": None, "sha256": about.get("sha256")} for name in scores]
    return make_results(listed, make_protocol(protocol, 4, about.get("crop_border")), {"psnr": Psnr()}, methods=methods)


def write(folder: Path, **files: Results) -> list[Path]:
    paths = []
    for name, document in files.items():
        paths.append(folder / name / "results.json")
        write_results(paths[-1], document)
    return paths


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def pairs(merged: Results) -> list[tuple[str, str]]:
    return [(row["a"], row["b"]) for row in merged["statistics"]]


def test_the_same_name_with_other_scores_is_told_apart_by_file(tmp_path: Path) -> None:
    paths = write(tmp_path, new=results({"mine": BETTER}), old=results({"mine": WORSE}))
    merged = compare_files(paths)
    (row,) = merged["statistics"]
    assert (row["a"], row["b"], row["better"]) == ("mine (new)", "mine (old)", "mine (new)")
    assert row["difference"] == pytest.approx(0.3)
    assert row["low"] > 0
    assert [method["name"] for method in merged["methods"]] == ["mine (new)", "mine (old)"]


def test_a_baseline_that_both_files_share_is_one_row(tmp_path: Path) -> None:
    paths = write(
        tmp_path, a=results({"bicubic": BICUBIC, "mine": BETTER}), b=results({"bicubic": BICUBIC, "other": WORSE})
    )
    merged = compare_files(paths)
    assert sorted(row["method"] for row in merged["means"]) == ["bicubic", "mine", "other"]
    assert len(merged["images"]) == 18
    assert len(pairs(merged)) == 3


@pytest.mark.parametrize("other", [{"sha256": "abc"}, {"set_name": "Set14", "sha256": "abc"}])
def test_other_weights_are_another_method(tmp_path: Path, other: dict[str, str]) -> None:
    baseline = results({"bicubic": BICUBIC}, set_name=other.get("set_name", "Set5"))
    paths = write(tmp_path, a=results({"mine": BETTER}), b=results({"mine": BETTER}, **other), c=baseline)
    assert {row["method"] for row in compare_files(paths)["means"]} == {"mine (a)", "mine (b)", "bicubic"}


def test_fewer_pictures_or_other_metrics_are_not_dropped(tmp_path: Path) -> None:
    paths = write(tmp_path, a=results({"bicubic": BICUBIC}), b=results({"bicubic": BICUBIC[:4]}))
    (row,) = compare_files(paths)["statistics"]
    assert (row["a"], row["images"], row["left_out"], row["difference"]) == ("bicubic (a)", 4, 2, 0.0)
    only_ssim = make_results(
        [ImageScore("bicubic", "Set5", "img_0", {"ssim": 0.8})], make_protocol("y", 4), {"ssim": Ssim()}
    )
    merged = compare_files(write(tmp_path, a=results({"bicubic": BICUBIC}), c=only_ssim))
    assert {row["method"] for row in merged["means"]} == {"bicubic (a)", "bicubic (c)"}


def test_sets_in_separate_files_make_one_method(tmp_path: Path) -> None:
    both = {"bicubic": BICUBIC, "mine": BETTER}
    merged = compare_files(write(tmp_path, a=results(both), b=results(both, set_name="Set14")))
    assert [(row["set"], row["images"]) for row in merged["statistics"]] == [("Set5", 6), ("Set14", 6), (None, 12)]
    assert "| bicubic - mine | all | psnr |" in statistics_markdown(merged)


def test_a_method_of_one_file_keeps_its_name(tmp_path: Path) -> None:
    paths = write(tmp_path, a=results({"mine": BETTER}, sha256="abc"), b=results({"bicubic": BICUBIC}))
    assert pairs(compare_files(paths)) == [("mine", "bicubic")]


def test_failures_and_missing_scores_follow_their_method(tmp_path: Path) -> None:
    parts = {}
    for name, scores in (("new", BETTER), ("old", WORSE)):
        parts[name] = results({"mine": scores})
        parts[name]["failures"] = [{"method": "mine", "set": "Set5", "image": "x", "why": f"broken in {name}"}]
        parts[name]["missing"] = [{"metric": "psnr", "why": name, "method": "mine", "set": "Set5", "image": "y"}]
    merged = compare_files(write(tmp_path, **parts))
    assert [(row["method"], row["why"]) for row in merged["failures"]] == [
        ("mine (new)", "broken in new"),
        ("mine (old)", "broken in old"),
    ]
    assert [(row["method"], row["why"]) for row in merged["missing"]] == [("mine (new)", "new"), ("mine (old)", "old")]


def test_what_has_no_score_is_said(tmp_path: Path) -> None:
    document = results({"mine": BETTER})
    document["failures"] = [{"method": "mine", "set": "Set5", "image": "x", "why": "broken"}]
    document["missing"] = [
        {"metric": "lpips", "why": "no weights"},
        {"metric": "niqe", "method": "mine", "set": "Set5", "image": "y", "why": "too small"},
    ]
    code, output = invoke(*write(tmp_path, a=document, b=results({"other": WORSE})))
    assert code == 0
    for sentence in ("lpips was not computed: no", "niqe leaves out 1 of Set5 (y): too small", "mine, Set5, x: broken"):
        assert sentence in output


def test_labels() -> None:
    assert file_labels(["x/one.json", "x/two.json"]) == ["one", "two"]
    assert file_labels(["x/one/results.json", "x/two/results.json"]) == ["one", "two"]
    assert file_labels(["a/run/results.json", "b/run/results.json"]) == ["a/run", "b/run"]
    assert file_labels(["x/one.json"]) == ["one"]


def test_different_protocols_are_refused_by_their_fields(tmp_path: Path) -> None:
    paths = write(tmp_path, a=results({"m": BETTER}), b=results({"m": WORSE}, protocol="rgb", crop_border=0))
    with pytest.raises(ResultsError) as caught:
        compare_files(paths)
    for part in ("a/results.json", "b/results.json", "color is 'y' and 'rgb'", "crop_border is 4 and 0", "--protocol"):
        assert part in str(caught.value)
    assert "scale" not in str(caught.value)
    code, output = invoke(*paths)
    assert code == 1
    assert "color is 'y' and 'rgb'" in output


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    (single,) = write(tmp_path, a=results({"mine": BETTER}))
    assert invoke(single)[0] == 1
    assert "no two methods" in invoke(single)[1]
    assert "named twice" in invoke(single, single)[1]
    assert "named twice" in invoke(single, single.parent / ".." / "a" / "results.json")[1]
    assert invoke(tmp_path / "none.json")[0] == 1
    assert invoke()[0] == 2
    single.write_text('{"protocol": {}, "metrics": {}, "means": 2, "images": [], "missing": [], "failures": []}')
    code, output = invoke(single)
    assert code == 1
    assert "'means' has another form" in output


def test_command_prints_and_writes(tmp_path: Path) -> None:
    paths = write(tmp_path, new=results({"mine": BETTER}), old=results({"mine": WORSE}))
    code, output = invoke(*paths, "--out", tmp_path / "out")
    assert code == 0, output
    line = next(line for line in output.splitlines() if "mine (new) - mine (old)" in line)
    assert "+0.300" in line
    assert "6 of 6" in line
    assert read_results(tmp_path / "out" / "results.json")["statistics"] == compare_files(paths)["statistics"]
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    assert "| mine (new) - mine (old) | Set5 | psnr | +0.300 |" in markdown
    assert "| a - b | set | metric | difference | 95 % interval |" in markdown
    assert "10,000 resamples, seed 0" in markdown


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    paths = write(tmp_path, results=results({"mine": BETTER}), old=results({"mine": WORSE}))
    before = paths[0].read_text()
    code, output = invoke(*paths, "--out", paths[0].parent)
    assert code == 1
    assert "would be replaced by the comparison; name another --out" in " ".join(output.split())
    assert paths[0].read_text() == before


def test_too_few_and_undecided_are_said(tmp_path: Path) -> None:
    few = compare_files(write(tmp_path, a=results({"m": BETTER[:2], "n": BICUBIC[:2]})))
    assert few["statistics"][0]["better"] is None
    assert "too few images" in invoke(tmp_path / "a" / "results.json")[1]
    equal = write(tmp_path, b=results({"m": BICUBIC, "n": BICUBIC}))
    assert "undecided" in invoke(*equal)[1]


def test_what_has_no_scores_of_both_is_not_called_undecided(tmp_path: Path) -> None:
    paths = write(tmp_path, a=results({"m": [None] * 6, "n": BICUBIC}))
    code, output = invoke(*paths)
    assert code == 0
    assert "no image has both scores" in output
    assert "0 of 0" not in output


def test_different_precisions_are_named(tmp_path: Path) -> None:
    files = []
    for name, precision in (("here", "bf16-mixed"), ("there", "32"), ("old", None)):
        scores = [ImageScore(name, "Set5", image, {"psnr": 30.0}) for image in "abcdef"]
        part = make_results(scores, make_protocol("y", 4), {"psnr": Psnr()}, precision=precision)
        files.append(tmp_path / f"{name}.json")
        write_results(files[-1], part)
    merged = compare_files(files)
    assert merged["precision"] == "bf16-mixed and 32"
    assert title_of(merged).endswith("; computed in bfloat16 and float32")
    assert merged["note"].endswith(f"{files[0]} in bfloat16, {files[1]} in float32")
    result = CliRunner().invoke(app, ["compare", *map(str, files), "--out", str(tmp_path / "out")])
    assert "different precisions" in result.output
    assert "different precisions" in (tmp_path / "out/comparison.md").read_text()
    assert "note" not in compare_files(files[1:])
    write_results(files[2], {**read_results(files[2]), "precision": "32"})
    assert "note" not in compare_files(files[1:])


def test_folders_of_results_are_taken(tmp_path: Path) -> None:
    paths = write(tmp_path, new=results({"mine": BETTER}), old=results({"mine": WORSE}))
    code, output = invoke(*(path.parent for path in paths))
    assert code == 0, output
    assert "mine (new) - mine (old)" in output
    code, output = invoke(tmp_path, paths[0])
    assert code == 1
    assert f"{tmp_path / 'results.json'} cannot be read" in output
