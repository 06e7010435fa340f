"""Tables of means: methods down, sets and metrics across, the best bold, the second underlined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mvmsr.benchmark.results import Results
from mvmsr.metrics.protocol import Protocol

if TYPE_CHECKING:
    from rich.table import Table

WIDEST = 12
"""Columns of scores that a table in a document holds; beyond it each set gets a table."""
_COLUMN, _FIRST_COLUMN = 11, 24
"""Characters that a column of scores and one of method names take in a terminal."""
_NAMES = {"lpips_vgg": "LPIPS (VGG)", "niqe_y": "NIQE (luma)", "consistency": "consistency"}
_UNITS = {"psnr": "dB", "consistency": "dB"}


@dataclass(frozen=True)
class Cell:
    """A formatted mean and its rank among the methods: 1 best, 2 second, 0 neither."""

    text: str
    rank: int


@dataclass(frozen=True)
class Grid:
    """One table, ready to be drawn."""

    title: str
    columns: tuple[tuple[str, str], ...]
    """(set, metric with its arrow)"""
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def grids(results: Results, widest: int = WIDEST) -> Iterator[Grid]:
    """All sets in one table where it has at most `widest` columns of scores, else one table a set."""
    sets = list(dict.fromkeys(row["set"] for row in results["means"]))
    missing = dict.fromkeys(entry["metric"] for entry in results["missing"] if "image" not in entry)
    metrics = list(results["metrics"]) + [key for key in missing if key not in results["metrics"]]
    title = title_of(results)
    if not sets or not metrics:
        return
    groups = [sets] if len(sets) * len(metrics) <= widest else [[name] for name in sets]
    for group in groups:
        yield _grid(title, group, metrics, results)


def title_of(results: Results) -> str:
    """The protocol in one line."""
    fields = {key: value for key, value in results["protocol"].items() if key in Protocol.__dataclass_fields__}
    lq = "made" if results["protocol"].get("lq", "make") == "make" else "the set's files"
    return f"Protocol {Protocol(**fields).describe()}; low quality: {lq}"


def metric_name(key: str) -> str:
    """How papers write a metric, as `ST-LPIPS` for `st_lpips`."""
    return _NAMES.get(key) or key.upper().replace("_", "-")


def metric_unit(key: str) -> str:
    """The unit of a metric's figures; empty for plain numbers."""
    return _UNITS.get(key, "")


def pictures_of(results: Results, set_name: str) -> int:
    """How many pictures of a set were scored, by the method that did most of them."""
    return max((row["images"] for row in results["means"] if row["set"] == set_name), default=0)


def rich_tables(results: Results, width: int = 120) -> list[Table]:
    """For a terminal of that many characters."""
    from rich.table import Table
    from rich.text import Text

    styles = {0: "", 1: "bold", 2: "underline"}
    tables = []
    for grid in grids(results, (width - _FIRST_COLUMN) // _COLUMN):
        table = Table(title=grid.title, title_justify="left", min_width=len(grid.title))
        table.add_column("method")
        for set_name, metric in grid.columns:
            table.add_column(f"{set_name}\n{metric}", justify="right")
        for method, cells in grid.rows:
            table.add_row(Text(method), *(Text(cell.text, styles[cell.rank]) for cell in cells))
        tables.append(table)
    return tables


def to_markdown(results: Results) -> str:
    """For documents: best as **bold**, second as <u>underlined</u>."""
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    blocks = []
    for grid in grids(results):
        header = ["method", *(f"{set_name} {metric}" for set_name, metric in grid.columns)]
        lines = [f"{grid.title}", "", _row(header), _row(["---", *["---:"] * len(grid.columns)])]
        for method, cells in grid.rows:
            lines.append(_row([_escape(method), *(marks[cell.rank].format(cell.text) for cell in cells)]))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _grid(title: str, sets: list[str], metrics: list[str], results: Results) -> Grid:
    means = {(row["method"], row["set"]): row for row in results["means"]}
    methods = list(dict.fromkeys(row["method"] for row in results["means"] if row["set"] in sets))
    columns = [(set_name, key) for set_name in sets for key in metrics]
    drawn: list[list[Cell]] = []
    for set_name, key in columns:
        values = [means.get((method, set_name), {}).get(key) for method in methods]
        drawn.append(_column(values, results["metrics"].get(key, {})))
    heads = tuple((set_name, key + _arrow(results["metrics"].get(key, {}))) for set_name, key in columns)
    rows = tuple((method, tuple(column[i] for column in drawn)) for i, method in enumerate(methods))
    return Grid(title, heads, rows)


def _column(values: list[float | None], about: dict[str, Any]) -> list[Cell]:
    """Ranks follow the shown digits, so that equal figures look alike; with one method nothing is marked."""
    texts = ["-" if value is None else f"{value:.{about.get('decimals', 4)}f}" for value in values]
    sign = -1 if about.get("higher_is_better", True) else 1
    order = sorted({float(text) for text in texts if text != "-"}, key=lambda shown: sign * shown)
    if sum(text != "-" for text in texts) < 2:
        return [Cell(text, 0) for text in texts]
    ranks = {shown: place for place, shown in enumerate(order[:2], start=1)}
    return [Cell(text, 0 if text == "-" else ranks.get(float(text), 0)) for text in texts]


def _arrow(about: dict[str, Any]) -> str:
    return {True: " ↑", False: " ↓"}.get(about.get("higher_is_better"), "")  # type: ignore[arg-type]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
