"""What methods cost, as a small table for terminals and documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mvmsr.benchmark.markdown import markdown_table, plain
from mvmsr.benchmark.results import Results

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("method", "parameters", "multiply-adds at 720p", "seconds per megapixel", "peak MiB")
NOTE = "Multiply-adds and seconds are for pixels of output; peak memory is the weights and what work takes beside them."


def cost_lines(results: Results) -> list[tuple[str, ...]]:
    """The cells of each row, under `HEADER`; empty where no method is a network, whose cost would be worth a table."""
    costs = [(method["name"], method.get("cost") or {}) for method in results.get("methods", [])]
    if all(cost.get("parameters") is None and cost.get("peak_mib") is None for _, cost in costs):
        return []
    return [(name, *_cells(cost)) for name, cost in costs]


def cost_table(results: Results) -> Table | None:
    """For a terminal; None where there is nothing to tell."""
    from rich.table import Table
    from rich.text import Text

    lines = cost_lines(results)
    if not lines:
        return None
    title = f"Cost on {_device(results)}"
    table = Table(title=title, title_justify="left", caption=NOTE, caption_justify="left", min_width=len(title))
    for number, text in enumerate(HEADER):
        table.add_column(text, justify="right" if number else "left", overflow="fold")
    for cells in lines:
        table.add_row(*map(Text, cells))
    return table


def cost_markdown(results: Results) -> str:
    """For documents; empty where there is nothing to tell."""
    lines = cost_lines(results)
    if not lines:
        return ""
    rows = [(plain(name), *costs) for name, *costs in lines]
    drawn = markdown_table(HEADER, rows, range(1, len(HEADER)))
    return f"Cost on {_device(results)}. {NOTE}\n\n{drawn}\n"


def _device(results: Results) -> str:
    machine = results.get("machine") or {}
    device = machine.get("gpu") or machine.get("device") or "an unknown machine"
    threads = machine.get("threads")
    return f"cpu ({threads} thread{'' if threads == 1 else 's'})" if device == "cpu" and threads else str(device)


def _cells(cost: Mapping[str, Any]) -> tuple[str, str, str, str]:
    work = cost.get("multiply_adds_720p")
    return (
        _text(cost.get("parameters"), ",d"),
        "-" if work is None else f"{work / 1e9:,.1f} G",
        _text(cost.get("seconds_per_megapixel"), ".3g"),
        _text(cost.get("peak_mib"), ",.0f"),
    )


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
