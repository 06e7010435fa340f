"""Tables of means: methods down, sets and metrics across, the best bold, the second underlined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mvmsr.benchmark.markdown import markdown_table, plain
from mvmsr.benchmark.results import Results
from mvmsr.decimals import fixed
from mvmsr.metrics.protocol import Protocol

if TYPE_CHECKING:
    from rich.table import Table

WIDEST = 12
"""Columns of scores that a table in a document holds; beyond it each set gets a table."""
PARTIAL = (
    "A mean marked (n of N) lacks images that another method has; means over different images cannot be compared, "
    "so it has no rank"
)
_COLUMN, _FIRST_COLUMN = 11, 24
"""Characters that a column of scores and one of method names take in a terminal."""
_NAMES = {"lpips_vgg": "LPIPS (VGG)", "niqe_y": "NIQE (luma)", "consistency": "consistency"}
_PRECISIONS = {"32": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}
_UNITS = {"psnr": "dB", "consistency": "dB"}


@dataclass(frozen=True)
class Cell:
    """A formatted mean and its rank among the methods: 1 best, 2 second, 0 neither.

    `part` is `2 of 3` where the mean lacks pictures that another method has; it has no rank then.
    """

    text: str
    rank: int
    part: str = ""

    @property
    def shown(self) -> str:
        """The mean, with how many pictures it is over where those are not all, as `24.35 (2 of 3)`."""
        return f"{self.text} ({self.part})" if self.part else self.text


@dataclass(frozen=True)
class Grid:
    """One table, ready to be drawn."""

    title: str
    columns: tuple[tuple[str, str], ...]
    """(set, metric with its arrow)"""
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]

    @property
    def footnote(self) -> str:
        """What a reader must know of marked means; empty where every mean is over the same pictures."""
        return PARTIAL if any(cell.part for _, cells in self.rows for cell in cells) else ""


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
    lq = results["protocol"].get("lq", "make")
    lq = {"make": "made", "file": "the set's files"}.get(lq, f"the files of {lq}")
    computed = f"; computed in {precision_name(results['precision'])}" if "precision" in results else ""
    return f"Protocol {Protocol(**fields).describe()}; low quality: {lq}{computed}"


def precision_name(precision: str) -> str:
    """How people call what methods computed in, be it one or several.

    >>> precision_name("32 and bf16-mixed")
    'float32 and bfloat16'
    """
    return " and ".join(_PRECISIONS.get(one, one) for one in precision.split(" and "))


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
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    styles = {0: "", 1: "bold", 2: "underline"}
    tables = []
    for grid in grids(results, (width - _FIRST_COLUMN) // _COLUMN):
        note = f"{grid.footnote}." if grid.footnote else None
        table = Table(
            title=escape(grid.title),
            title_justify="left",
            min_width=len(grid.title),
            caption=note,
            caption_justify="left",
        )
        table.add_column("method", overflow="fold")
        for set_name, metric in grid.columns:
            table.add_column(escape(f"{set_name}\n{metric}"), justify="right", no_wrap=True)
        for method, cells in grid.rows:
            table.add_row(Text(method), *(Text(cell.shown, styles[cell.rank]) for cell in cells))
        tables.append(table)
    return tables


def to_markdown(results: Results) -> str:
    """For documents: best as **bold**, second as <u>underlined</u>."""
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    blocks = []
    for grid in grids(results):
        header = ["method", *(plain(f"{set_name} {metric}") for set_name, metric in grid.columns)]
        rows = [
            (plain(method), *(marks[cell.rank].format(cell.shown) for cell in cells)) for method, cells in grid.rows
        ]
        lines = [grid.title, "", markdown_table(header, rows, range(1, len(header)))]
        lines += ["", f"{grid.footnote}."] if grid.footnote else []
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _grid(title: str, sets: list[str], metrics: list[str], results: Results) -> Grid:
    means = {(row["method"], row["set"]): row for row in results["means"]}
    methods = list(dict.fromkeys(row["method"] for row in results["means"] if row["set"] in sets))
    columns = [(set_name, key) for set_name in sets for key in metrics]
    drawn: list[list[Cell]] = []
    for set_name, key in columns:
        values = [means.get((method, set_name), {}).get(key) for method in methods]
        parts = _parts(results, set_name, key, methods)
        drawn.append(_column(values, parts, results["metrics"].get(key, {})))
    heads = tuple((set_name, key + arrow(results["metrics"].get(key, {}))) for set_name, key in columns)
    rows = tuple((method, tuple(column[i] for column in drawn)) for i, method in enumerate(methods))
    return Grid(title, heads, rows)


def _parts(results: Results, set_name: str, metric: str, methods: list[str]) -> list[str]:
    """For each method `n of N` where it lacks the metric on pictures of the set that others have, else nothing."""
    scored: dict[str, set[str]] = {method: set() for method in methods}
    for row in results["images"]:
        if row["set"] == set_name and row.get(metric) is not None and row["method"] in scored:
            scored[row["method"]].add(row["image"])
    every = set().union(*scored.values())
    return [f"{len(one)} of {len(every)}" if one and one != every else "" for one in scored.values()]


def _column(values: list[float | None], parts: list[str], about: dict[str, Any]) -> list[Cell]:
    """Ranks follow the shown digits, so that equal figures look alike; with one method nothing is marked.

    Means over a part of the pictures have no rank: a method that fails on hard pictures would have the best.
    """
    texts = ["-" if value is None else fixed(value, about.get("decimals", 4)) for value in values]
    sign = -1 if about.get("higher_is_better", True) else 1
    ranked = [text for text, part in zip(texts, parts, strict=True) if text != "-" and not part]
    order = sorted({float(text) for text in ranked}, key=lambda shown: sign * shown)
    ranks = {shown: place for place, shown in enumerate(order[:2], start=1)} if len(ranked) > 1 else {}
    return [
        Cell(text, 0 if text == "-" or part else ranks.get(float(text), 0), part)
        for text, part in zip(texts, parts, strict=True)
    ]


def arrow(about: Mapping[str, Any]) -> str:
    """The direction in which a metric is better, behind its name; empty where that is not known."""
    return {True: " ↑", False: " ↓"}.get(about.get("higher_is_better"), "")  # type: ignore[arg-type]
