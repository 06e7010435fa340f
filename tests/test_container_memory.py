"""What a container's limit leaves, read from made control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvmsr.container_memory import container_memory


def _group(folder: Path, limit: str, used: int, stat: str) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(stat)
    return folder


@pytest.mark.parametrize(
    ("limit", "used", "stat", "left"),
    [
        ("1000", 990, "anon 200\ninactive_file 500\nactive_file 200\n", 710),  # copies of files are given up
        ("1000", 400, "anon 400\n", 600),
        ("1000", 1100, "anon 1100\n", 0),
        ("max", 990, "inactive_file 500\n", None),
    ],
)
def test_what_is_left(limit: str, used: int, stat: str, left: int | None, tmp_path: Path) -> None:
    assert container_memory(_group(tmp_path, limit, used, stat)) == left


def test_without_a_group_there_is_no_limit(tmp_path: Path) -> None:
    assert container_memory(tmp_path) is None
