from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mvmsr.benchmark.evaluate import ImageScore
from mvmsr.benchmark.gaps import not_computed
from mvmsr.benchmark.latex import to_latex
from mvmsr.benchmark.results import (
    Results,
    ResultsError,
    make_results,
    merge_results,
    read_results,
    to_csv,
    versions,
    write_results,
    write_text,
)
from mvmsr.benchmark.run import is_complete
from mvmsr.benchmark.statistics import add_statistics
from mvmsr.benchmark.statistics_table import statistics_markdown
from mvmsr.benchmark.table import grids, rich_tables, to_markdown
from mvmsr.hardware import processor_name
from mvmsr.metrics import MissingMetric, Niqe, Psnr, Ssim, make_protocol
from mvmsr.report.benchmark_page import build_benchmark_report

METRICS = {"psnr": Psnr(), "niqe": Niqe()}
LPIPS = MissingMetric("lpips", "AlexNet weights not found")


def score(method: str, image: str, psnr: float, niqe: float | None = None, set_name: str = "Set5") -> ImageScore:
    notes = {} if niqe is not None else {"niqe": "too small"}
    return ImageScore(method, set_name, image, {"psnr": psnr, "niqe": niqe}, 0.5, notes)


def results(protocol: str = "y", scores: list[ImageScore] | None = None) -> Results:
    if scores is None:
        scores = [
            score("bicubic", "a", 20.0, 8.0),
            score("bicubic", "b", 30.0),
            score("mine", "a", 26.0, 6.0),
            ImageScore("mine", "Set5", "b", {}, error="broken"),
        ]
    return make_results(scores, make_protocol(protocol, 4), METRICS, missing=[LPIPS], device="cpu")


def test_document() -> None:
    document = results()
    assert document["protocol"]["color"] == "y"
    assert document["protocol"]["crop_border"] == 4
    assert document["versions"]["torch"]
    assert document["machine"]["device"] == "cpu"
    assert document["machine"]["processor"] == processor_name()
    bicubic, mine = document["means"]
    expected = {"method": "bicubic", "set": "Set5", "psnr": 25.0, "niqe": 8.0, "lpips": None, "seconds": 0.5}
    assert bicubic == {**expected, "images": 2, "failed": 0}
    assert (mine["psnr"], mine["images"], mine["failed"]) == (26.0, 1, 1)
    assert len(document["images"]) == 3
    assert document["images"][1] == {
        "method": "bicubic",
        "set": "Set5",
        "image": "b",
        "psnr": 30.0,
        "niqe": None,
        "lpips": None,
        "seconds": 0.5,
    }
    assert document["missing"][0] == {"metric": "lpips", "why": "AlexNet weights not found"}
    assert document["missing"][1]["image"] == "b"
    assert document["failures"] == [{"method": "mine", "set": "Set5", "image": "b", "why": "broken"}]


def test_round_trip_with_infinity(tmp_path: Path) -> None:
    document = results(scores=[score("copy", "a", math.inf, 3.0)])
    path = tmp_path / "deep" / "results.json"
    write_results(path, document)
    assert read_results(path) == document
    strict = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert strict["means"][0]["psnr"] == "inf"
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_names_are_no_numbers(tmp_path: Path) -> None:
    scores = [score("inf", "-inf", math.inf, 8.0, "inf"), score("b", "-inf", 1.0, set_name="inf")]
    document = add_statistics({**results(scores=scores), "methods": [{"name": "inf", "source": "inf"}]})
    write_results(tmp_path / "r.json", document)
    assert read_results(tmp_path / "r.json") == document


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.1, -2.0])
def test_figures_come_back_from_the_file(tmp_path: Path, value: float) -> None:
    write_results(tmp_path / "r.json", results(scores=[score("copy", "a", value, 3.0)]))
    assert read_results(tmp_path / "r.json")["images"][0]["psnr"] == value


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("no space left")

    path = tmp_path / "r.json"
    write_text(path, "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as results"), ("[]", "is no JSON object"), ('{"protocol": {}}', "has no 'means'")],
)
def test_reading_something_else(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ResultsError, match=message):
        read_results(tmp_path / "r.json")
    with pytest.raises(ResultsError, match=r"\(No such file or directory\); name a results.json, or the folder that"):
        read_results(tmp_path / "none" / "results.json")


def test_a_mean_over_a_part_of_the_pictures_says_so_and_has_no_rank() -> None:
    easy = [score("mine", "a", 29.0, 6.0), ImageScore("mine", "Set5", "hard", {}, error="out of memory")]
    whole = [score(m, image, psnr, 7.0) for m, psnr in (("bicubic", 24.0), ("other", 25.0)) for image in ("a", "hard")]
    document = results(scores=[*whole, *easy])
    text = to_markdown(document)
    assert "| bicubic | <u>24.00</u> |" in text
    assert "| other | **25.00** |" in text
    assert "| mine | 29.00 (1 of 2) | 6.0000 (1 of 2) |" in text
    assert "(n of N) lacks images that another method has" in text
    latex = to_latex(document)
    assert "mine & 29.00 (1 of 2) & 6.0000 (1 of 2)" in latex
    assert "lacks images that another method has" in latex
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    for table in rich_tables(document, 100):
        console.print(table)
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "29.00 (1 of 2)" in shown
    assert "lacks images that another method has" in shown
    page = build_benchmark_report(document)
    assert "29.00 (1 of 2)" in page
    assert "lacks images that another method has" in page
    assert "lacks images" not in to_markdown(results(scores=whole))
    # One method by itself is complete, however many of its pictures failed: its own count says so.
    assert "of 2" not in to_markdown(results(scores=easy))


def test_merge_takes_the_newer_row() -> None:
    first = results()
    second = results(scores=[score("mine", "a", 27.0, 5.0), score("mine", "b", 29.0, 5.0), score("new", "a", 1.0, 9.0)])
    merged = merge_results([first, second])
    assert {row["method"]: row["psnr"] for row in merged["means"]} == {"bicubic": 25.0, "mine": 28.0, "new": 1.0}
    assert [row["psnr"] for row in merged["images"] if row["method"] == "mine"] == [27.0, 29.0]
    assert merged["failures"] == []
    assert [entry["metric"] for entry in merged["missing"]] == ["lpips", "niqe"]


def test_merge_keeps_what_each_part_brings() -> None:
    def part(method: str, metric: str, checksum: str, precision: str) -> Results:
        scores = [ImageScore(method, "Set5", "a", {metric: 0.5})]
        about = [{"name": method, "sha256": checksum}]
        metrics = {metric: {"psnr": Psnr(), "ssim": Ssim()}[metric]}
        return make_results(scores, make_protocol("y", 4), metrics, methods=about, precision=precision)

    old, other, new = (
        part("a", "psnr", "old", "32"),
        part("b", "ssim", "b", "bf16-mixed"),
        part("a", "psnr", "new", "32"),
    )
    merged = merge_results([merge_results([old, other]), new])
    assert merged["metrics"] == {**old["metrics"], **other["metrics"]}
    assert merged["methods"] == [{"name": "a", "sha256": "new"}, {"name": "b", "sha256": "b"}]
    assert merged["precision"] == "32 and bf16-mixed"


def test_pictures_that_were_read_took_no_time() -> None:
    scores = [ImageScore("saved", "Set5", name, {"psnr": 30.0, "niqe": 5.0}) for name in "ab"]
    assert results(scores=scores)["means"][0]["seconds"] is None


def test_merge_refuses_other_protocols() -> None:
    with pytest.raises(ResultsError, match=r"different protocols.*color: 'y' and 'rgb'"):
        merge_results([results("y"), results("rgb")])
    with pytest.raises(ResultsError, match="nothing to merge"):
        merge_results([])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"protocol": "rgb"}, "color: 'y' and 'rgb'"),
        ({"protocol": "y_float"}, "round_y: True and False"),
        ({"protocol": "y_only"}, "luma_first: False and True"),
        ({"crop_border": 2}, "crop_border: 4 and 2"),
        ({"scale": 3, "crop_border": 4}, "scale: 4 and 3"),
        ({"lq": "file"}, "lq: 'make' and 'file'"),
    ],
)
def test_whatever_differs_in_the_protocol_is_refused_and_named(changed: dict[str, Any], message: str) -> None:
    def part(protocol: str = "y", scale: int = 4, crop_border: int | None = None, lq: str = "make") -> Results:
        return make_results([score("one", "a", 30.0)], make_protocol(protocol, scale, crop_border), METRICS, lq=lq)

    with pytest.raises(ResultsError, match=rf"cannot be compared \(.*{message}"):
        merge_results([part(), part(**changed)])
    assert merge_results([part(**changed), part(**changed)])["means"][0]["psnr"] == 30.0


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(results()))))
    assert len(rows) == 3
    assert (rows[1]["protocol"], rows[1]["image"], rows[1]["psnr"], rows[1]["niqe"]) == ("y", "b", "30.0", "")


def many() -> Results:
    scores = [score("one", "a", 30.004, 8.0), score("two", "a", 30.001, 7.0), score("three", "a", 29.0, 9.0)]
    return results(scores=scores)


def test_markdown_marks_best_and_second() -> None:
    lines = to_markdown(many()).splitlines()
    assert lines[0] == "Protocol y (luma, rounded, 4 px border cropped, x4); low quality: made"
    assert lines[2] == "| method | Set5 psnr ↑ | Set5 niqe ↓ | Set5 lpips |"
    # 30.004 and 30.001 both read 30.00: equal figures are marked alike.
    assert lines[4] == "| one | **30.00** | <u>8.0000</u> | - |"
    assert lines[5] == "| two | **30.00** | **7.0000** | - |"
    assert lines[6] == "| three | <u>29.00</u> | 9.0000 | - |"


def test_a_picture_without_one_of_its_scores_counts_for_the_others() -> None:
    scores = [score("one", "a", 30.0, 8.0), score("one", "b", 28.0), score("two", "a", 27.0, 7.0)]
    lines = to_markdown(results(scores=[*scores, score("two", "b", 26.0, 6.0)])).splitlines()
    assert lines[4:6] == ["| one | **29.00** | 8.0000 (1 of 2) | - |", "| two | <u>26.50</u> | 6.5000 | - |"]


def test_names_with_lines_and_bars_stay_in_their_cells() -> None:
    scores = [score(name, "a", 30.0, 8.0, "a|b\nc") for name in ("one\ntwo", "three")]
    lines = to_markdown(results(scores=scores)).splitlines()
    assert lines[2] == r"| method | a\|b c psnr ↑ | a\|b c niqe ↓ | a\|b c lpips |"
    assert lines[4:] == [f"| {name} | **30.00** | **8.0000** | - |" for name in ("one two", "three")]


def test_names_are_shown_as_they_are() -> None:
    scores = [score(name, "a", 30.0, 8.0, "[x](y)") for name in ("my_net <b>*best*</b>", "_`c`_ &amp; \\d ~e~")]
    lines = to_markdown(results(scores=scores)).splitlines()
    assert r"| \[x\](y) psnr ↑ |" in lines[2]
    assert [line.partition(" | ")[0] for line in lines[4:]] == [
        r"| my_net \<b>\*best\*\</b>",
        r"| \_\`c\`\_ \&amp; \\d \~e\~",
    ]


def test_equal_figures_are_all_the_best() -> None:
    lines = to_markdown(results(scores=[score(name, "a", 30.0, 8.0) for name in ("one", "two")])).splitlines()
    assert lines[4:] == [f"| {name} | **30.00** | **8.0000** | - |" for name in ("one", "two")]


def test_one_method_is_not_marked() -> None:
    assert "**" not in to_markdown(results(scores=[score("one", "a", 30.0, 8.0)]))


def test_rich_table() -> None:
    from rich.console import Console

    table = rich_tables(many())[0]
    assert table.title.startswith("Protocol y (")
    cells = list(table.columns[1].cells)
    assert [(cell.plain, str(cell.style)) for cell in cells] == [
        ("30.00", "bold"),
        ("30.00", "bold"),
        ("29.00", "underline"),
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table)
    assert "Set5" in console.export_text()


def test_names_of_sets_are_no_markup_in_a_terminal() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(rich_tables(results(scores=[score("one", "a", 30.0, 8.0, "Set[red]")]))[0])
    assert "Set[red]" in console.export_text()


def test_many_columns_are_split_by_set() -> None:
    scores = [score("one", "a", 30.0, 8.0, set_name) for set_name in ("A", "B", "C", "D")]
    document = make_results(scores, make_protocol("y", 4), {**METRICS, "ssim": Ssim()})
    assert [len(grid.columns) for grid in grids(document)] == [12]
    assert [grid.columns[0][0] for grid in grids(document, widest=11)] == ["A", "B", "C", "D"]
    assert len(rich_tables(document, width=200)) == 1
    assert len(rich_tables(document, width=80)) == 4


def test_complete_means_every_metric_has_a_score() -> None:
    whole = [score("one", "a", 30.0, 8.0), score("one", "b", 30.0)]
    assert is_complete(make_results(whole, make_protocol("y", 4), METRICS))
    empty = make_results(whole[1:], make_protocol("y", 4), METRICS)
    assert not is_complete(empty)
    assert is_complete(empty, allow_missing=True)
    broken = make_results([*whole, ImageScore("one", "Set5", "c", {}, error="x")], make_protocol("y", 4), METRICS)
    assert not is_complete(broken, allow_missing=True)


def test_merge_forgets_what_a_later_run_made_good() -> None:
    whole: list[dict[str, str | None]] = [
        {"method": "new", "set": None, "image": None, "why": "cannot be opened"},
        {"method": None, "set": "Set14", "image": None, "why": "no data"},
        {"method": "gone", "set": None, "image": None, "why": "no such file"},
    ]
    first = {**results(scores=[score("mine", "a", 27.0, 5.0)]), "failures": whole}
    second = results(scores=[score("new", "a", 1.0, 9.0, "Set14")])
    assert merge_results([first, second])["failures"] == whole[2:]
    assert merge_results([second, first])["failures"] == whole


def test_merge_drops_the_note_of_a_metric_that_no_row_lacks_any_more() -> None:
    class Lpips(Psnr):
        name = "lpips"

    def part(method: str, lpips: float | None) -> Results:
        metrics, missing = ({**METRICS, "lpips": Lpips()}, []) if lpips else (METRICS, [LPIPS])
        scores = [ImageScore(method, "Set5", "a", {"psnr": 30.0, "niqe": 5.0, "lpips": lpips})]
        return make_results(scores, make_protocol("y", 4), metrics, missing=missing)

    without, later = part("one", None), part("one", 0.1)
    assert merge_results([without, later])["missing"] == []
    assert is_complete(merge_results([without, later]))
    assert not_computed(merge_results([later, without])) == ["lpips was not computed: AlexNet weights not found"]
    both = merge_results([without, part("two", 0.1)])
    assert not_computed(both) == ["lpips was not computed for one: AlexNet weights not found"]


def test_results_name_the_commit_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvmsr.benchmark.results.revision", lambda: "0123456789ab+changes")
    assert results()["versions"] == {**versions(), "mvmsr_commit": "0123456789ab+changes"}
    monkeypatch.setattr("mvmsr.benchmark.results.revision", lambda: None)
    assert results()["versions"] == versions()


def test_what_rounds_to_zero_has_no_sign() -> None:
    scores = [
        ImageScore(method, "Set5", f"p{number}", {"psnr": value, "niqe": value})
        for method, value in (("one", -1e-5), ("two", 0.0))
        for number in range(6)
    ]
    document = add_statistics(results(scores=scores))
    texts = (
        to_markdown(document),
        to_latex(document),
        statistics_markdown(document),
        re.sub(r"<script.*?</script>|<[^>]*>", "", build_benchmark_report(document), flags=re.DOTALL),
    )
    for text in texts:
        assert re.findall(r"[-+−$]0\.0+(?!\d)", text) == []
    assert "0.000 to 0.000" in texts[2]
