from __future__ import annotations

import pytest

from mvmsr.counting import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (12_345, "12,345 images")]
)
def test_a_number_with_its_noun(number: int, text: str) -> None:
    assert counted(number, "image") == text
