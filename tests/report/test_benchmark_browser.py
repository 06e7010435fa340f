"""The page of a benchmark in headless Chromium: what a reader does with mouse, keyboard and finger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmark_results import save_benchmark

from mvmsr.report import write_benchmark_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@dataclass
class Opened:
    """A page, and what went wrong on it or left it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def slider(self) -> int:
        """Where the divider stands, in per cent."""
        return int(self.page.get_by_role("slider").get_attribute("aria-valuenow") or "-1")

    def which(self) -> str:
        """What is said to be shown."""
        return self.page.locator("#which").inner_text()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = save_benchmark(tmp_path_factory.mktemp("benchmark"))
    return write_benchmark_report([out], out / "page.html")[0]


def open_page(chromium: Browser, report: Path, width: int, phone: bool = False) -> Opened:
    page = chromium.new_page(viewport={"width": width, "height": 812}, has_touch=phone, is_mobile=phone)
    opened = Opened(page)
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(report.as_uri())
    return opened


@pytest.fixture
def desktop(chromium: Browser, report: Path) -> Iterator[Opened]:
    opened = open_page(chromium, report, 1280)
    yield opened
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]
    opened.page.close()


def test_the_divider_follows_the_mouse(desktop: Opened) -> None:
    stage = desktop.page.locator("#stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    assert desktop.slider() == 50
    desktop.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    desktop.page.mouse.down()
    desktop.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 30, steps=4)
    desktop.page.mouse.up()
    assert desktop.slider() == 20
    assert "inset(0px 80" in desktop.page.locator("#over").evaluate("image => getComputedStyle(image).clipPath")
    desktop.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 30)  # no longer pressed
    assert desktop.slider() == 20


def test_the_divider_follows_the_keyboard(desktop: Opened) -> None:
    slider = desktop.page.get_by_role("slider")
    slider.focus()
    for key, expected in (
        ("ArrowRight", 52),
        ("ArrowLeft", 50),
        ("PageUp", 60),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("End", 100),
    ):
        desktop.page.keyboard.press(key)
        assert desktop.slider() == expected
    assert slider.get_attribute("aria-valuetext") == "100 % bicubic, 0 % mine"


def test_arrow_keys_step_through_the_pictures(desktop: Opened) -> None:
    options = desktop.page.get_by_role("listbox", name="Images").get_by_role("option")
    assert options.count() == 4
    assert desktop.which() == "1 of 4: A, a2"
    options.first.focus()
    for key, expected in (("ArrowRight", "2 of 4: A, a3"), ("End", "4 of 4: B, b1"), ("ArrowRight", "1 of 4: A, a2")):
        desktop.page.keyboard.press(key)
        assert desktop.which() == expected
    desktop.page.keyboard.press("ArrowLeft")
    assert desktop.page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert desktop.page.locator(".places:visible").count() == 1
    desktop.page.get_by_role("button", name="Previous image").click()
    assert desktop.which() == "3 of 4: A, a1"


def test_any_two_versions_are_compared(desktop: Opened) -> None:
    page = desktop.page
    sources = page.evaluate("JSON.parse(document.getElementById('data').textContent).pictures[0].versions")
    assert [source["name"] for source in sources] == ["bicubic", "mine", "original"]
    page.get_by_role("combobox", name="Right").select_option("original")
    assert page.locator("#under").get_attribute("src") == sources[2]["src"]
    page.get_by_role("button", name="Swap left and right").click()
    assert page.locator("#over").get_attribute("src") == sources[2]["src"]
    assert page.locator("#under").get_attribute("src") == sources[0]["src"]
    assert page.locator("#over").get_attribute("alt") == "A, a2: original"
    assert page.locator("#picture-scores tbody").inner_text().split() == ["bicubic", "30.00", "9.0000"]
    assert page.locator("#under").evaluate("image => image.naturalWidth") == 128


def test_charts_compare_the_methods_that_are_chosen(desktop: Opened) -> None:
    page = desktop.page
    sentence = page.locator("#chart-sentence")
    assert sentence.inner_text() == "mine is better than bicubic on 3 of 4 images; mean difference +1.50 (PSNR (dB) ↑)."
    assert page.locator("#scatter .mark").count() == page.locator("#sorted .mark").count() == 4
    page.get_by_role("combobox", name="by").select_option("NIQE ↓")
    assert sentence.inner_text() == "mine is better than bicubic on 2 of 4 images; mean difference −0.7750 (NIQE ↓)."
    page.locator("#sorted .open").first.click()  # the largest difference: a3 and b1 have +0.5, a3 comes first
    assert desktop.which() == "2 of 4: A, a3"


def test_a_phone_shows_all_without_scrolling_sideways(chromium: Browser, report: Path) -> None:
    opened = open_page(chromium, report, 375, phone=True)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    stage = page.locator("#stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] * 0.75, box["y"] + 10)
    assert opened.slider() == 75
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, .thumb')].filter(e => e.offsetHeight < 36).length"
    )
    assert small == 0
    assert opened.complaints == []
    page.close()


def test_print_shows_every_picture(desktop: Opened) -> None:
    desktop.page.emulate_media(media="print")
    assert desktop.page.locator(".places:visible").count() == 4
    assert not desktop.page.locator("#stage").is_visible()


def test_dark_and_light_differ_and_both_can_be_read(chromium: Browser, report: Path) -> None:
    contrasts = []
    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(report.as_uri())
        ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
        levels = [sum(map(int, color[4:-1].split(","))) / 3 for color in (ink, paper)]
        contrasts.append(levels[1] - levels[0])
        page.close()
    assert contrasts[0] > 150
    assert contrasts[1] < -150
