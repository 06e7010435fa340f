"""Paired differences as tables, for terminals and documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mvmsr.benchmark.markdown import markdown_table, plain
from mvmsr.benchmark.results import Results
from mvmsr.benchmark.statistics import FEW_IMAGES
from mvmsr.decimals import fixed

if TYPE_CHECKING:
    from rich.table import Table

HEADER = ("a - b", "set", "metric", "difference", "95 % interval", "a better on", "better")
FIGURES = range(3, 6)
"""Columns that are justified to the right."""
ALL_SETS = "all"


def statistics_lines(results: Results) -> list[tuple[str, ...]]:
    """The cells of each row, under `HEADER`; empty where there are no statistics."""
    return [_cells(row, results["metrics"]) for row in results.get("statistics", [])]


def header_of(results: Results) -> tuple[str, ...]:
    """`HEADER` with the confidence that the statistics have."""
    confidence = results.get("statistics_settings", {}).get("confidence", 0.95)
    return tuple(text.replace("95 %", f"{100 * confidence:g} %") for text in HEADER)


def statistics_table(results: Results) -> Table:
    """For a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Paired differences", title_justify="left", caption=_note(results), caption_justify="left")
    for number, text in enumerate(header_of(results)):
        table.add_column(text, justify="right" if number in FIGURES else "left", overflow="fold")
    for cells, row in zip(statistics_lines(results), results.get("statistics", []), strict=True):
        table.add_row(*(Text(cell, "bold" if row["better"] is not None else "") for cell in cells))
    return table


def statistics_markdown(results: Results) -> str:
    """For documents; the empty string where there are no statistics."""
    lines = statistics_lines(results)
    if not lines:
        return ""
    rows = [[plain(cell) for cell in cells] for cells in lines]
    return f"Paired differences\n\n{markdown_table(header_of(results), rows, FIGURES)}\n\n{_note(results)}\n"


def _cells(row: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    decimals = metrics.get(row["metric"], {}).get("decimals", 4) + 1  # differences are smaller than scores
    of = f"{row['a_better']} of {row['images']}" + (f", {row['left_out']} left out" if row["left_out"] else "")
    low, difference, high = (
        "-" if row[key] is None else fixed(row[key], decimals, sign=True) for key in ("low", "difference", "high")
    )
    interval = "-" if row["low"] is None else f"{low} to {high}"
    verdict = row["better"] or ("too few images" if row["too_few"] else "undecided")
    if not row["images"]:
        of, verdict = "-", "no image has both scores"
    pair = f"{row['a']} - {row['b']}"
    return pair, row["set"] or ALL_SETS, row["metric"], difference, interval, of, verdict


def _note(results: Results) -> str:
    return " ".join(_sentences(results))


def _sentences(results: Results) -> Iterator[str]:
    settings = results.get("statistics_settings", {})
    yield f"Bootstrap over images, {settings.get('resamples', 0):,} resamples, seed {settings.get('seed', 0)}."
    yield "Undecided: the interval holds zero."
    rows = results.get("statistics", [])
    if any(row["set"] is None for row in rows):
        yield "All: every image of the sets alike, each set resampled by itself."
    if any(row["too_few"] for row in rows):
        yield f"Fewer than {FEW_IMAGES} images decide nothing."
