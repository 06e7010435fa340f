from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from benchmark_results import save_benchmark, small_results
from typer.testing import CliRunner

from mvmsr.benchmark.results import Results, write_results
from mvmsr.benchmark.statistics import add_statistics
from mvmsr.cli import report
from mvmsr.cli.several_values import SeveralValues
from mvmsr.cli.test import command as test_command
from mvmsr.data.image_io import read_rgb
from mvmsr.report import ReportError, is_benchmark, write_benchmark_report
from mvmsr.report.benchmark_page import build_benchmark_report
from mvmsr.report.benchmark_plots import legend_marker, plane_in_words, planes, write_plots
from mvmsr.report.benchmark_sections import chart_data, cost_rows, difference_tables, gaps, score_tables

app = typer.Typer()
app.command("report")(report.command)
app.command("test", cls=SeveralValues)(test_command)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


class Reader(HTMLParser):
    """Collects text and addresses, and checks that elements are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_needs_nothing_besides_itself(tmp_path: Path) -> None:
    out = save_benchmark(tmp_path)
    written = write_benchmark_report([out])
    page = written[0].read_text(encoding="utf-8")
    reader = read(page)
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|<iframe", page)
    assert len(set(reader.ids)) == len(reader.ids)
    assert {f"#{name}" for name in reader.ids} >= {address for address in reader.addresses if address[0] == "#"}
    figures = {"tradeoff_niqe", "scores_psnr", "scores_niqe"}
    assert {path.name for path in written[1:]} == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    assert "bicubic and mine on A and B" in reader.text


def test_scores_stand_with_ranks_units_pictures_and_protocol() -> None:
    [table] = score_tables(small_results())
    assert table.sets == (("A", 3, 3), ("B", 1, 3))
    assert table.heads == ("PSNR (dB) ↑", "NIQE ↓", "LPIPS") * 2
    assert [[(cell.text, cell.rank) for cell in cells[:3]] for _, _, cells in table.rows] == [
        [("25.00", 2), ("8.0000", 2), ("-", 0)],
        [("26.33", 1), ("6.8000", 1), ("-", 0)],
    ]
    page = build_benchmark_report(small_results())
    assert "<strong>26.33</strong>" in page
    assert "<u>25.00</u>" in page
    assert page.count("Protocol y (luma, rounded, 4 px border cropped, x4); low quality: made") >= 3


def test_what_is_missing_is_said_and_nothing_in_it_is_markup() -> None:
    results = small_results()
    results["failures"] = [{"method": "<b>evil</b>", "set": None, "image": None, "why": "broken"}]
    results["missing"].append({"metric": "niqe", "why": "too small", "method": "mine", "set": "A", "image": "a1"})
    assert gaps(results) == [
        "LPIPS was not computed: AlexNet weights <not> found\nget them",
        "NIQE leaves out 1 of A (a1): too small",
        "failed: <b>evil</b>: broken",
    ]
    page = build_benchmark_report(results)
    assert "AlexNet weights &lt;not&gt; found" in page
    assert "<b>evil" not in page


def test_a_name_cannot_leave_the_data_of_the_script() -> None:
    results = small_results()
    for row in [*results["means"], *results["images"], *results["methods"]]:
        for key in ("method", "name"):
            if row.get(key) == "mine":
                row[key] = "</script><script>alert(1)"
    page = build_benchmark_report(results)
    assert page.count("<script") == 2
    body = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(body)["chart"]["methods"][1] == "</script><script>alert(1)"


def test_charts_get_every_finite_score() -> None:
    results = small_results()
    results["images"][0]["psnr"] = float("inf")
    data = chart_data(results)
    assert data["images"][0] == [0, 0, "a1", [None, 8.0]]
    assert data["images"][-1] == [1, 1, "b1", [24.0, 6.5]]
    assert [(metric["name"], metric["higher"]) for metric in data["metrics"]] == [("PSNR", True), ("NIQE", False)]


def test_differences_carry_interval_and_winner() -> None:
    results = small_results()
    settings = {"method": "paired bootstrap", "confidence": 0.9, "resamples": 500}
    about = {"a": "bicubic", "b": "mine", "metric": "psnr", "images": 9, "a_better": 2, "b_better": 7}
    results["statistics"] = [
        {**about, "set": "A", "difference": -1.5, "low": -2.0, "high": -1.0, "better": "mine"},
        {**about, "set": "B", "difference": 0.25, "low": None, "high": None, "better": None},
        {**about, "set": None, "difference": None, "low": None, "high": None, "better": None},
    ]
    results["statistics_settings"] = settings
    [table] = difference_tables(results)
    assert (table.metric, table.columns) == ("PSNR (dB) ↑", ("A", "B", "all images"))
    [(_, first, _, second, cells)] = table.rows
    assert (first, second) == ("bicubic", "mine")
    assert [(cell.text, cell.interval, cell.wins, cell.better) for cell in cells] == [
        ("−1.50", "−2.00 to −1.00", "better on 2 of 9", 1),
        ("+0.25", "too few to tell", "better on 2 of 9", None),
        ("–", "", "", None),
    ]
    page = build_benchmark_report(results)
    assert "its 90% interval" in page
    assert "(mine is better)" in page
    assert 'id="differences"' not in build_benchmark_report(small_results())


def test_statistics_of_a_benchmark_are_understood() -> None:
    results = add_statistics(small_results(), resamples=50)
    tables = difference_tables(results)
    assert [table.metric for table in tables] == ["PSNR (dB) ↑", "NIQE ↓"]
    assert tables[0].columns == ("A", "B", "all images")
    assert tables[0].rows[0][4][2].text == "−1.50"
    assert "How sure the differences are" in build_benchmark_report(results)


def test_costs_are_written_as_people_say_them() -> None:
    results = small_results()
    cost = {
        "parameters": 1_546_000,
        "multiply_adds_720p": 146.1e9,
        "seconds_per_megapixel": 0.01234,
        "peak_mib": 1234.5,
    }
    results["methods"][1]["cost"] = cost
    results["methods"][0]["cost"] = dict.fromkeys(cost)
    assert cost_rows(results) == [(1, "mine", ("1.55 M", "146 G", "0.0123", "1,234"))]
    assert "peak memory" in build_benchmark_report(results)
    assert 'id="cost"' not in build_benchmark_report(small_results())


def test_the_plane_has_every_method_that_has_both_scores() -> None:
    results = small_results()
    results["means"][3]["niqe"] = None  # mine on B
    first, second = planes(results)
    assert (first.set, first.x, first.y, first.pictures) == ("A", "psnr", "niqe", 3)
    assert [(point.method, round(point.x, 2), round(point.y, 2)) for point in first.points] == [
        (0, 25.0, 8.0),
        (1, 26.33, 6.8),
    ]
    assert [point.method for point in second.points] == [0]
    assert plane_in_words(results, second) == "PSNR (dB) ↑ and NIQE ↓ on B. bicubic: 22.00, 6.0000."


def test_without_a_perceptual_metric_there_is_no_plane(tmp_path: Path) -> None:
    results = small_results()
    del results["metrics"]["niqe"]
    assert planes(results) == []
    assert 'id="tradeoff"' not in build_benchmark_report(results)
    assert {path.name for path in write_plots(results, tmp_path)} == {"scores_psnr.png", "scores_psnr.svg"}


def test_plots_show_the_methods_colours(tmp_path: Path) -> None:
    picture = read_rgb(write_plots(small_results(), tmp_path)[0])
    for color in ((0x1F, 0x6F, 0xD6), (0xD1, 0x48, 0x0B)):  # bicubic's and mine's
        assert (np.abs(picture.astype(int) - color).sum(axis=2) < 12).sum() > 100


def test_markers_of_legends_differ_and_fill_their_square() -> None:
    paths = [legend_marker(number) for number in range(8)]
    assert len(set(paths)) == 8
    for path in paths:
        numbers = [abs(float(number)) for number in re.findall(r"-?[\d.]+", path)]
        assert max(numbers) == 1


@pytest.mark.parametrize("methods", [("bicubic",), ()])
def test_little_is_enough_for_a_page(methods: tuple[str, ...]) -> None:
    page = build_benchmark_report(small_results(methods))
    assert 'id="single"' not in read(page).ids
    assert ("Nothing was scored" in page) == (not methods)


def test_many_pictures_stay_within_eight_mib(tmp_path: Path) -> None:
    """Noise is what compresses worst: six pictures of 640x480 in three versions would take 9 MB."""
    results = small_results()
    for row in results["images"]:
        row["set"], row["image"] = "N", f"{row['set']}{row['image']}"
    for row in results["means"]:
        row["set"] = "N"
    rng = np.random.default_rng(0)
    save_benchmark(tmp_path, results, originals=False)
    for path in (tmp_path / "images").rglob("*.png"):
        from mvmsr.data.image_io import write_rgb

        write_rgb(path, rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    page = write_benchmark_report([tmp_path], tmp_path / "page.html")[0]
    assert 2_000_000 < page.stat().st_size < 8_000_000


def test_several_folders_share_a_page_and_different_protocols_do_not(tmp_path: Path) -> None:
    first = save_benchmark(tmp_path / "one", small_results(("bicubic",)))
    second = save_benchmark(tmp_path / "two", small_results(("mine",)))
    [page] = write_benchmark_report([first, second], tmp_path / "page.html")
    assert "bicubic and mine on A and B" in page.read_text(encoding="utf-8")
    other: Results = small_results()
    other["protocol"]["name"] = "rgb"
    write_results(tmp_path / "rgb.json", other)
    with pytest.raises(ReportError, match="different protocols"):
        write_benchmark_report([first, tmp_path / "rgb.json"])


def test_folders_with_different_metrics_share_a_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_benchmark(tmp_path / name)
    path = tmp_path / "b" / "results.json"
    results = json.loads(path.read_text())
    lacking = next(iter(results["metrics"]))
    del results["metrics"][lacking]
    for row in [*results["means"], *results["images"]]:
        del row[lacking]
        row["method"] += "_b"
    for method in results["methods"]:
        method["name"] += "_b"
    path.write_text(json.dumps(results))
    write_benchmark_report([tmp_path / "a", tmp_path / "b"], tmp_path / "report.html")
    assert "_b" in (tmp_path / "report.html").read_text()


def test_the_command_tells_benchmarks_from_runs(tmp_path: Path) -> None:
    out = save_benchmark(tmp_path / "bench")
    code, output = run("report", out)
    assert code == 0, output
    assert f"wrote {out / 'report.html'} (" in output
    assert f"wrote {out / 'plots' / 'scores_psnr.png'}" in output
    assert is_benchmark(out)
    assert is_benchmark(out / "results.json")
    trained = tmp_path / "run"
    trained.mkdir()
    (trained / "options.yml").write_text("name: small\n")
    assert not is_benchmark(trained)
    code, output = run("report", trained, out, "-o", tmp_path / "both.html")
    assert code == 0, output
    both = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "small" in both
    assert "26.33" in both


@pytest.mark.parametrize("content", ["{}", "[1]", '{"protocol": {}, "means": 3}'])
def test_a_file_that_is_no_benchmark_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    code, output = run("report", tmp_path)
    assert code == 1
    assert "results.json" in output


def test_a_benchmark_leaves_pictures_plots_and_page(tmp_path: Path) -> None:
    out = save_benchmark(tmp_path / "made")  # its originals serve as a set
    arguments: tuple[Any, ...] = ("--set-names", out / "originals" / "A", "--metrics", "psnr", "--device", "cpu")
    code, output = run("test", *arguments, "--out", tmp_path / "out")
    assert code == 0, output
    assert (tmp_path / "out" / "images" / "bicubic" / "A" / "a2.png").is_file()
    assert (tmp_path / "out" / "originals" / "A" / "a2.png").is_file()
    assert (tmp_path / "out" / "plots" / "scores_psnr.svg").is_file()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('class="thumb"') == 3
    assert f"wrote {tmp_path / 'out' / 'report.html'}" in output
    code, output = run("test", *arguments, "--out", tmp_path / "bare", "--no-save-images", "--no-report")
    assert code == 0, output
    assert not (tmp_path / "bare" / "images").exists()
    assert not (tmp_path / "bare" / "report.html").exists()
    assert (tmp_path / "bare" / "results.tex").is_file()


def test_plots_take_names_as_they_are(tmp_path: Path) -> None:
    renamed = json.loads(json.dumps(small_results()).replace('"mine"', '"$_{$"').replace('"bicubic"', '"_b"'))
    drawn = write_plots(renamed, tmp_path)
    legend = next(path for path in drawn if path.suffix == ".svg").read_text(encoding="utf-8")
    assert ">$_{$</text>" in legend
    assert ">_b</text>" in legend
