"""The page in headless Chromium: what people do on it with mouse, keyboard and finger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from served_page import MAX_UPLOAD, Served

from mvmsr.inference import Upscaler

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

WAIT = 60_000
"""Milliseconds; the clock of a busy machine."""


@dataclass
class Visit:
    """A page, and what went wrong on it or was asked of whom."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def give(self, picture: Path, told: str) -> None:
        """Puts a picture into the page and waits for what is said of it."""
        self.page.set_input_files("#upload input[type=file]", str(picture))
        self.said("#about", told)

    def choose(self, model: str) -> None:
        self.page.locator("#model input").click()
        self.page.get_by_role("option", name=model).click()

    def enlarge(self) -> None:
        self.page.locator("#go").click()

    def said(self, where: str, text: str) -> None:
        self.page.locator(where).filter(has_text=text).first.wait_for(timeout=WAIT)

    @property
    def divider(self) -> Locator:
        return self.page.get_by_role("slider", name="Divider")

    def share(self) -> float:
        """The part of the picture, in per cent, on which bicubic is shown."""
        style = "document.querySelectorAll('#compared img')[1]?.getAttribute('style')"
        self.page.wait_for_function(f"() => ({style} ?? '').includes('0px 0px 0px ')", timeout=WAIT)
        style = self.page.locator("#compared img").nth(1).get_attribute("style") or ""
        return float(style.split("0px 0px 0px ")[1].split("%")[0])


def _visit(chromium: Browser, served: Served, width: int = 1180, phone: bool = False) -> Visit:
    page = chromium.new_page(viewport={"width": width, "height": 800}, has_touch=phone, is_mobile=phone)
    visit = Visit(page)
    page.on("console", lambda message: visit.complaints.extend([message.text] if message.type == "error" else []))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("request", lambda request: visit.requests.append(request.url))
    page.goto(served.url, timeout=WAIT)
    page.locator("#go").wait_for(timeout=WAIT)
    return visit


@pytest.fixture
def visit(chromium: Browser, served: Served) -> Iterator[Visit]:
    opened = _visit(chromium, served)
    yield opened
    opened.page.close()


def test_a_picture_is_enlarged_compared_and_downloaded(
    visit: Visit, served: Served, pictures: Path, tiny: Path, tmp_path: Path
) -> None:
    visit.give(pictures / "plain.png", "41\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}30 becomes 164")
    visit.page.get_by_text("x2", exact=True).click()
    visit.said("#about", "becomes 82")
    visit.enlarge()
    visit.said("#told", "pixels in")

    assert visit.share() == 50
    assert visit.divider.get_attribute("aria-valuenow") == "50"
    visit.divider.focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("PageUp")
    assert visit.share() == pytest.approx(72, abs=1)
    assert visit.divider.get_attribute("aria-valuenow") == "72"
    box = visit.page.locator("#compared img").first.bounding_box()
    handle = visit.divider.bounding_box()
    assert box is not None
    assert handle is not None
    visit.page.mouse.move(handle["x"] + handle["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=4)
    visit.page.mouse.up()
    assert visit.share() == pytest.approx(25, abs=3)

    with visit.page.expect_download(timeout=WAIT) as waiting:
        visit.page.locator("#download").click()
    assert waiting.value.suggested_filename == "plain_x2.png"
    Upscaler(str(tiny), device="cpu", outscale=2).upscale_file(pictures / "plain.png", tmp_path / "same.png")
    assert Path(waiting.value.path()).read_bytes() == (tmp_path / "same.png").read_bytes()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith((served.url, "data:", "blob:"))] == []


def test_a_telephone_shows_all_of_it(chromium: Browser, served: Served, pictures: Path) -> None:
    visit = _visit(chromium, served, width=375, phone=True)
    visit.give(pictures / "plain.png", "becomes 164")
    visit.page.get_by_text("JPEG", exact=True).tap()
    visit.page.locator("#quality").wait_for(timeout=WAIT)
    visit.page.locator("#go").tap()
    visit.said("#told", "pixels in")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 375
    field = visit.page.locator("#model input")
    padding = float(field.evaluate("field => parseFloat(getComputedStyle(field).paddingRight)"))
    arrow, box = visit.page.locator("#model .icon-wrap svg").bounding_box(), field.bounding_box()
    assert arrow is not None
    assert box is not None
    assert box["x"] + box["width"] - padding <= arrow["x"] + 1  # a long title does not run under the arrow
    for name in ("#upload", "#compared", "#download", "#go", "#stop"):
        box = visit.page.locator(name).bounding_box()
        assert box is not None
        assert 0 <= box["x"] < box["x"] + box["width"] <= 375, name
    visit.page.close()


def test_stop_ends_the_work_and_who_waits_sees_the_place(
    chromium: Browser, visit: Visit, served: Served, pictures: Path
) -> None:
    visit.choose("slow")
    visit.give(pictures / "middling.png", "becomes 800")
    visit.enlarge()
    visit.said("#compared", "Enlarging - ")
    second = _visit(chromium, served)
    second.give(pictures / "plain.png", "becomes 164")
    second.enlarge()
    second.said("#compared", "queue: 1/1")
    visit.page.locator("#stop").click()
    visit.said("#told", "Stopped.")
    second.said("#told", "pixels in")
    second.page.close()
    assert _given_up(served)


def test_who_leaves_takes_the_work_along(visit: Visit, chromium: Browser, served: Served, pictures: Path) -> None:
    leaving = _visit(chromium, served)
    leaving.choose("slow")
    leaving.give(pictures / "middling.png", "becomes 800")
    leaving.enlarge()
    leaving.said("#compared", "Enlarging - ")
    leaving.page.close()
    visit.give(pictures / "plain.png", "becomes 164")
    visit.enlarge()
    visit.said("#told", "pixels in")
    assert _given_up(served)


def _given_up(served: Served) -> bool:
    """Whether the slow job, which ran before another that is done, has left no result."""
    return not list(served.folder.glob("files/*/middling_x4.png"))


def test_what_cannot_be_done_is_said(visit: Visit, pictures: Path, tmp_path: Path) -> None:
    visit.enlarge()
    visit.said("[data-testid=toast-body]", "Choose an image first.")
    visit.give(pictures / "junk.png", "junk.png is not an image")
    visit.enlarge()
    visit.said("[data-testid=toast-body]", "junk.png is not an image")
    (tmp_path / "large.png").write_bytes(b"x" * (MAX_UPLOAD + 1))
    visit.page.locator("#upload").get_by_label("Clear").click()
    visit.page.set_input_files("#upload input[type=file]", str(tmp_path / "large.png"))
    visit.said("[data-testid=toast-body]", "size")
