"""No figure of a table is cut off, however narrow the terminal; nothing limits lines in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from mvmsr.cli.tables import UNLIMITED, print_table, table_console


def drawn(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(console, table)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 45, 20])
def test_figures_stay_whole_and_names_give_way(width: int) -> None:
    table = Table("method")
    for name in ("psnr", "ssim"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("interval", justify="right")
    table.add_row("a_name_that_is_longer_than_the_terminal" * 2, "24.35 (2 of 3)", "0.81040", "-0.1575 to -0.0064")
    text = drawn(table, width)
    for figure in ("24.35 (2 of 3)", "0.81040", "-0.1575", "-0.0064"):
        assert figure in text
    if width > 45:
        assert max(map(len, text.splitlines())) <= width


def test_lines_in_a_pipe_are_as_long_as_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert table_console().width == UNLIMITED
    monkeypatch.setenv("COLUMNS", "70")
    assert table_console().width == 70
