"""The table of means as LaTeX with booktabs: methods down, the metrics of each set side by side, as papers print it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from mvmsr.benchmark.gaps import every_gap
from mvmsr.benchmark.results import Results
from mvmsr.benchmark.table import Cell, Grid, grids, metric_name, pictures_of
from mvmsr.counting import counted

WIDEST = 16
"""Columns of scores across both columns of a page: four sets by four metrics."""
_ONE_COLUMN = 5
"""Columns of scores that fit into one column of a page."""
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "*": "{*}",  # at the beginning of a row it would belong to the line break before, as brackets would
    "[": "{[}",
    "]": "{]}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    **{sign: f"\\{sign}" for sign in "&%$#_"},
}
_MARKS = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}


def to_latex(results: Results) -> str:
    r"""One `table` or `table*` environment, or several where the sets do not fit beside each other.

    The best of a column is bold, the second underlined; the caption names the protocol. Needs `\usepackage{booktabs}`.
    Reasons of missing scores are comments above the tables.
    """
    lines = [r"% Needs \usepackage{booktabs}. Best in bold, second underlined.", *_comments(results)]
    for number, grid in enumerate(grids(results, WIDEST), start=1):
        lines += ["", *_table(grid, results, number)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text as LaTeX prints it, whatever signs it holds.

    >>> escape("a_b & 50%")
    'a\\\\_b \\\\& 50\\\\%'
    """
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def _table(grid: Grid, results: Results, number: int) -> Iterator[str]:
    sets = [(name, len([*columns])) for name, columns in groupby(grid.columns, key=lambda column: column[0])]
    star = "*" if len(grid.columns) > _ONE_COLUMN else ""
    yield rf"\begin{{table{star}}}[t]"
    yield r"\centering"
    yield rf"\caption{{{_caption(grid, results, [name for name, _ in sets])}}}"
    yield rf"\label{{tab:benchmark{'' if number == 1 else number}}}"
    if star:
        yield r"\footnotesize"
        yield r"\setlength{\tabcolsep}{3pt}"
    yield rf"\begin{{tabular}}{{l{''.join('r' * width for _, width in sets)}}}"
    yield r"\toprule"
    yield _row(["", *(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name, width in sets)])
    yield _rules([width for _, width in sets])
    yield _row(["Method", *(escape(_head(metric)) for _, metric in grid.columns)])
    yield r"\midrule"
    for method, cells in grid.rows:
        yield _row([escape(method), *(_MARKS[cell.rank].format(_cell(cell)) for cell in cells)])
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield rf"\end{{table{star}}}"


def _caption(grid: Grid, results: Results, sets: Sequence[str]) -> str:
    counts = ", ".join(f"{name} ({counted(pictures_of(results, name), 'image')})" for name in sets)
    sentences = [
        f"Mean scores for ×{results['protocol']['scale']} super-resolution on {counts}",
        grid.title,
    ]
    if len(grid.rows) > 1:
        sentences.append("The best of each column is bold, the second underlined")
    if grid.footnote:
        sentences.append(grid.footnote)
    return escape(". ".join(sentences) + ".")


def _head(metric: str) -> str:
    key, _, arrow = metric.partition(" ")
    return metric_name(key) + arrow


def _cell(cell: Cell) -> str:
    return f"{_figure(cell.text)} ({cell.part})" if cell.part else _figure(cell.text)


def _figure(text: str) -> str:
    return {"-": "--", "inf": r"$\infty$", "-inf": r"$-\infty$"}.get(text, re.sub(r"^-(?=\d)", "$-$", text))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _rules(widths: Sequence[int]) -> str:
    ends = [1 + sum(widths[: i + 1]) for i in range(len(widths))]
    return " ".join(rf"\cmidrule(lr){{{end - width + 1}-{end}}}" for end, width in zip(ends, widths, strict=True))


def _comments(results: Results) -> list[str]:
    """What has no score; a reason may have several lines."""
    return [f"% {line}" for text in every_gap(results) for line in text.splitlines()]
