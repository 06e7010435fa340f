from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_records import mvm_records

from mvmsr.benchmark.results import write_results
from mvmsr.metrics.protocol import make_protocol
from mvmsr.report import ReportError, build_report, write_report

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks nesting and gathers ids, attributes that load things, alternative texts and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.labels: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.ids += [about["id"]] if about.get("id") else []
        (self.links if tag == "a" else self.loads).extend(
            about[key] or "" for key in ("src", "href", "xlink:href", "srcset", "data", "action") if key in about
        )
        if tag == "img":
            self.pictures.append(about)
        if tag == "svg":
            self.labels.append(about.get("aria-label") or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def _results(path: Path, protocol: str = "y", method: str = "bicubic", psnr: float = 28.42) -> Path:
    means = [{"method": method, "set": "Set5", "psnr": psnr, "lpips": None, "seconds": 0.1, "images": 5, "failed": 0}]
    document: dict[str, Any] = {
        "protocol": {**make_protocol(protocol, 4).as_dict(), "lq": "make"},
        "metrics": {"psnr": {"higher_is_better": True, "decimals": 2}},
        "versions": {"torch": "2.4"},
        "machine": {"cpus": 2},
        "date": "2025-01-01",
        "methods": [],
        "means": means,
        "images": [],
        "missing": [{"metric": "lpips", "why": "AlexNet weights <not> found"}],
        "failures": [],
    }
    write_results(path, document)
    return path


def test_the_page_holds_every_part_and_nothing_is_loaded_from_elsewhere(
    make_run: Callable[..., Path], add_sample: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    run = make_run("mvm_run", mvm_records())
    add_sample(run, 20)
    html = build_report([run], [_results(tmp_path / "results.json")])
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    sections = {"trained", "scores", "benchmarks", "pictures", "curves", "options"}
    groups = {f"curves-{key}" for key in ("validation", "losses", "distances", "gradients", "rates", "speed")}
    assert sections | groups <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} == sections
    values = ("0.001 × PairLoss as pair", "28.00", "29.00", "0.8400", "28.42", "finished: 40 iterations", "network_m:")
    for value in values:
        assert value in page.text, value
    assert all(load.startswith(("data:image/", "#")) for load in page.loads)
    assert {load.removeprefix("#") for load in page.loads if load.startswith("#")} <= set(page.ids)
    assert "script" not in page.tags
    assert not re.findall(r"@import|url\((?!#)", html)
    assert not re.findall(r"https?://", html)
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(page.ids)
    assert all(picture["alt"] for picture in page.pictures)
    assert len(page.pictures) == 3
    assert any(label.startswith("PSNR on Set5 over iterations. mvm_run: first 29 at 20") for label in page.labels)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_runs_stand_side_by_side_with_a_legend(make_run: Callable[..., Path]) -> None:
    runs = [make_run("first", mvm_records()), make_run("second", mvm_records(20))]
    html = build_report(runs)
    page = Page(html)
    assert page.text.count("Options of") == 2
    legends = re.findall(r'<ul class="legend".*?</ul>', html, flags=re.DOTALL)
    assert len(legends) == 6
    assert all("first" in legend and "second" in legend for legend in legends)
    assert "var(--run1)" in html
    assert re.search(r'class="differs">progress', html)
    assert not re.search(r'class="differs">network', html)
    assert "<strong>29.00</strong>" in html


def test_half_written_runs_make_a_page_without_the_missing_parts(make_run: Callable[..., Path]) -> None:
    begun = Page(build_report([make_run("begun")]))
    assert "nothing has been logged yet" in begun.text
    assert "svg" not in begun.tags
    assert not {"scores", "curves", "pictures", "benchmarks"} & set(begun.ids)
    html = build_report([make_run("cut", [{"iter": 10, "loss_g/pixel": 0.5}], tail='{"iter": 20, "loss_')])
    assert "curves-losses" in Page(html).ids
    assert 'class="notes"' not in html
    damaged = Page(build_report([make_run("damaged", [{"iter": 10}], tail='{"it\n{"iter": 20}\n')]))
    assert "line 2 cannot be read" in damaged.text
    bare = Page(build_report([make_run("bare", [{"iter": 10}], options=None)]))
    assert "options.yml is missing" in bare.text


def test_names_and_notes_cannot_break_the_page(make_run: Callable[..., Path]) -> None:
    evil = "name: '<script>alert(1)</script>\" onload=\"x'\n"
    html = build_report([make_run("evil", [{"iter": 10, "loss_g/<i>": 0.5}], options=evil)])
    page = Page(html)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert not re.search(r'<[^>]* onload="x', html)


def test_results_of_one_protocol_share_a_table_and_others_do_not(tmp_path: Path) -> None:
    files = [
        _results(tmp_path / "a.json"),
        _results(tmp_path / "b.json", method="ours", psnr=29.0),
        _results(tmp_path / "c.json", protocol="rgb", psnr=26.0),
    ]
    html = build_report([], files)
    page = Page(html)
    assert page.tags.count("table") == 2
    assert "<strong>29.00</strong>" in html
    assert "<u>28.42</u>" in html
    assert "<td>26.00</td>" in html
    assert "Protocol rgb" in page.text
    assert "lpips was not computed: AlexNet weights <not> found" in page.text
    assert "trained" not in page.ids


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"protocol": 1, "means": 5, "images": [], "missing": [], "failures": [], "metrics": {}}'],
)
def test_results_that_are_none_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ReportError, match=r"results\.json"):
        build_report([], [path])


def test_nothing_to_report_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="nothing to report on"):
        build_report([])
    with pytest.raises(ReportError, match="gone does not exist"):
        build_report([tmp_path / "gone"])


def test_the_page_goes_into_the_first_run_or_where_it_is_told(make_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [make_run("one"), make_run("two")]
    assert write_report(runs) == runs[0] / "report.html"
    out = tmp_path / "new" / "page.html"
    assert write_report(runs, out) == out
    assert Page(out.read_text(encoding="utf-8")).text.count("Options of") == 2
    with pytest.raises(ReportError, match="say where"):
        write_report([], None, [_results(tmp_path / "results.json")])
