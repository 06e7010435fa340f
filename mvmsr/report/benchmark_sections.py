"""The tables of a benchmark's report as plain values: scores, differences with their intervals, costs, origins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mvmsr.benchmark.gaps import every_gap
from mvmsr.benchmark.results import Results
from mvmsr.benchmark.table import Cell, grids, metric_name, pictures_of
from mvmsr.decimals import fixed
from mvmsr.report.benchmark_pictures import set_names
from mvmsr.report.benchmark_plots import axis_label, method_names


@dataclass(frozen=True)
class ScoreTable:
    """Means with their ranks.

    Attributes:
        sets: name, number of pictures, and columns of each set.
        heads: the metric of each column, with its unit and what is better.
        rows: number and name of the method, and its cells.
        footnote: what marked means are.
    """

    title: str
    sets: tuple[tuple[str, int, int], ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[int, str, tuple[Cell, ...]], ...]
    footnote: str = ""


@dataclass(frozen=True)
class Difference:
    """How far two methods are apart; `better` is the number of the one that surely is, or None."""

    text: str = "–"
    interval: str = ""
    wins: str = ""
    better: int | None = None


@dataclass(frozen=True)
class DifferenceTable:
    """The differences of all pairs of methods under one metric, by set."""

    metric: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, str, int, str, tuple[Difference, ...]], ...]
    """(number and name of a, number and name of b, cells)"""


def score_tables(results: Results) -> list[ScoreTable]:
    """The tables that results.md has, too."""
    numbers = {method: number for number, method in enumerate(method_names(results))}
    tables = []
    for grid in grids(results):
        sets = [(name, len([*columns])) for name, columns in groupby(grid.columns, key=lambda column: column[0])]
        tables.append(
            ScoreTable(
                grid.title,
                tuple((name, pictures_of(results, name), width) for name, width in sets),
                tuple(axis_label(results, metric.partition(" ")[0]) for _, metric in grid.columns),
                tuple((numbers[method], method, cells) for method, cells in grid.rows),
                grid.footnote,
            )
        )
    return tables


def difference_tables(results: Results) -> list[DifferenceTable]:
    """What `statistics` of the document says; empty where it says nothing."""
    rows = results.get("statistics") or []
    names = method_names(results)
    sets: list[str | None] = [*set_names(results)]
    if any(row["set"] is None for row in rows):
        sets.append(None)
    tables = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        decimals = results["metrics"].get(metric, {}).get("decimals", 4)
        found = {(row["a"], row["b"], row["set"]): row for row in rows if row["metric"] == metric}
        pairs = dict.fromkeys((a, b) for a, b, _ in found if a in names and b in names)
        drawn = []
        for a, b in pairs:
            cells = tuple(_difference(found.get((a, b, name)), decimals, names) for name in sets)
            drawn.append((names.index(a), a, names.index(b), b, cells))
        tables.append(
            DifferenceTable(axis_label(results, metric), tuple(name or "all images" for name in sets), tuple(drawn))
        )
    return tables


def cost_rows(results: Results) -> list[tuple[int, str, tuple[str, ...]]]:
    """Number and name of each method that has a cost, with parameters, multiply-adds, seconds and memory."""
    numbers = {method: number for number, method in enumerate(method_names(results))}
    rows: list[tuple[int, str, tuple[str, ...]]] = []
    for method in results.get("methods", []):
        cost = method.get("cost") or {}
        values = (
            _big(cost.get("parameters")),
            _big(cost.get("multiply_adds_720p")),
            _digits(cost.get("seconds_per_megapixel"), 3),
            _digits(cost.get("peak_mib"), 4),
        )
        if any(value != "–" for value in values) and method["name"] in numbers:
            rows.append((numbers[method["name"]], method["name"], values))
    return rows


def gaps(results: Results) -> list[str]:
    """What has no score, and why: whole metrics, single pictures, failures."""
    return every_gap(results, metric_name)


def origins(results: Results) -> list[tuple[str, tuple[str, ...]]]:
    """What was measured, how, on what machine and with which versions; name and lines."""
    return [(name, lines) for name, lines in _origins(results) if lines]


def chart_data(results: Results) -> dict[str, Any]:
    """Every picture's scores, for the charts that a reader chooses; None where there is no finite score."""
    methods, sets, metrics = method_names(results), set_names(results), list(results["metrics"])
    return {
        "methods": methods,
        "sets": sets,
        "metrics": [
            {
                "label": axis_label(results, key),
                "name": metric_name(key),
                "higher": bool(results["metrics"][key].get("higher_is_better", True)),
                "decimals": results["metrics"][key].get("decimals", 4),
            }
            for key in metrics
        ],
        "images": [
            [
                methods.index(row["method"]),
                sets.index(row["set"]),
                row["image"],
                [_json(row.get(key)) for key in metrics],
            ]
            for row in results["images"]
        ],
    }


def _origins(results: Results) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield (
        "protocol",
        (", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in results["protocol"].items()),),
    )
    yield "measured", (str(results.get("date", "")),) if results.get("date") else ()
    for name in ("machine", "versions"):
        values = ", ".join(f"{key} {value}" for key, value in results.get(name, {}).items())
        yield name, (values,) if values else ()
    lines = []
    for method in results.get("methods", []):
        checksum = f", SHA-256 {method['sha256']}" if method.get("sha256") else ""
        lines.append(f"{method['name']}: {method.get('source') or 'built in'}{checksum}")
    yield "methods", tuple(lines)


def _difference(row: dict[str, Any] | None, decimals: int, names: list[str]) -> Difference:
    if row is None or row["difference"] is None:
        return Difference()
    interval = "too few to tell"
    if row["low"] is not None and row["high"] is not None:
        interval = f"{_signed(row['low'], decimals)} to {_signed(row['high'], decimals)}"
    better = names.index(row["better"]) if row.get("better") in names else None
    wins = f"better on {row['a_better']} of {row['images']}"
    return Difference(_signed(row["difference"], decimals), interval, wins, better)


def _signed(value: float, decimals: int) -> str:
    return fixed(value, decimals, sign=True).replace("-", "−")


def _big(value: float | None) -> str:
    """Thousands and more as people say them, as `1.54 M`."""
    if value is None:
        return "–"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{_digits(value / size, 3)} {unit}"
    return _digits(value, 3)


def _digits(value: float | None, digits: int) -> str:
    """So many digits that count, and no exponent."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    return f"{value:,.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _json(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
