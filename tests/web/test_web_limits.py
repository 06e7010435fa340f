from __future__ import annotations

import pytest

from mvmsr.web.limits import Limits, Refused, parse_pixels


@pytest.mark.parametrize(("text", "pixels"), [("4M", 4_000_000), ("2.5m", 2_500_000), ("800K", 800_000), ("12", 12)])
def test_amounts_of_pixels(text: str, pixels: int) -> None:
    assert parse_pixels(text) == pixels


@pytest.mark.parametrize("text", ["", "M", "4G", "-4M", "0", "nan", "inf", "1e30", "4 x 4"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 4M or 800K"):
        parse_pixels(text)


def test_the_largest_picture_passes_at_x4_and_nothing_beyond() -> None:
    limits = Limits(pixels=10_000)
    limits.check_size("a.png", 100, 100, 4)
    with pytest.raises(Refused, match=r"a\.png has 101 × 100 pixels .* at most"):
        limits.check_size("a.png", 100, 101, 2)
    with pytest.raises(Refused, match=r"at x8 would have .* smaller scale"):
        limits.check_size("a.png", 100, 100, 8)
    limits.check_size("a.png", 50, 50, 8)


@pytest.mark.parametrize("name", ["upload_bytes", "pixels", "seconds", "waiting"])
def test_limits_are_positive(name: str) -> None:
    for value in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            Limits(**{name: value})
