"""Figures of a benchmark: the plane of distortion and perception, and how scores spread over pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvmsr.benchmark.results import Results, to_bytes
from mvmsr.benchmark.table import arrow, metric_name, metric_unit, pictures_of, title_of
from mvmsr.counting import counted
from mvmsr.decimals import fixed
from mvmsr.report.benchmark_pictures import set_names
from mvmsr.report.svg import GRID, INK, RUN_COLORS, inline_figure, plain_axes, run_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DISTORTION = ("psnr", "ssim", "ms_ssim", "mae", "mse", "consistency")
"""Metrics that measure the distance to the original; the others stand for how natural a picture looks."""
COLORS = ("#1f6fd6", "#d1480b", "#0d8a5b", "#8b3fc0", "#bf2257", "#0a7d93", "#8a6d00", "#555b63")
"""Of the methods in files; a page has its own for light and dark."""
MARKERS = "osD^vPX*"
_FILE_INK, _FILE_GRID = "#1c1e21", "#dfe2e6"


@dataclass(frozen=True)
class Point:
    """The means of one method on one set; `method` is its number."""

    method: int
    x: float
    y: float


@dataclass(frozen=True)
class Plane:
    """Distortion against perception on one set."""

    set: str
    pictures: int
    x: str
    y: str
    points: tuple[Point, ...]


def method_names(results: Results) -> list[str]:
    """The methods, in the document's order."""
    return list(dict.fromkeys(row["method"] for row in results["means"]))


def axis_label(results: Results, metric: str) -> str:
    """`PSNR (dB) ↑`."""
    unit = metric_unit(metric)
    return f"{metric_name(metric)}{f' ({unit})' if unit else ''}{arrow(results['metrics'].get(metric, {}))}"


def legend_marker(number: int) -> str:
    """A method's marker as the path of an SVG that spans [-1, 1]."""
    from matplotlib.markers import MarkerStyle

    marker = MarkerStyle(MARKERS[number % len(MARKERS)])
    path = marker.get_path().transformed(marker.get_transform())
    reach = np.abs(path.vertices).max()
    outlines = [outline / reach * [1, -1] for outline in path.to_polygons()]  # SVG counts downward
    return "".join("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in outline) + "Z" for outline in outlines)


def planes(results: Results) -> list[Plane]:
    """One for every perceptual metric and set in which some method has both scores; PSNR is the distortion, or SSIM."""
    measured = list(results["metrics"])
    x = next((metric for metric in DISTORTION if metric in measured), None)
    if x is None:
        return []
    found = []
    for y in (metric for metric in measured if metric not in DISTORTION):
        for set_name in set_names(results):
            rows = {row["method"]: row for row in results["means"] if row["set"] == set_name}
            points = tuple(
                Point(number, rows[method][x], rows[method][y])
                for number, method in enumerate(method_names(results))
                if method in rows and _is_finite(rows[method].get(x)) and _is_finite(rows[method].get(y))
            )
            if points:
                found.append(Plane(set_name, pictures_of(results, set_name), x, y, points))
    return found


def plane_svg(results: Results, plane: Plane, name: str) -> str:
    """The plane as an `<svg>` element for a page, in the page's colours.

    Args:
        name: makes the ids inside it unique on the page.
    """

    def fill(axes: Axes) -> None:
        draw_plane(axes, results, plane, run_color, INK, GRID)

    return inline_figure(fill, plane_in_words(results, plane), name, 3.0, (0.145, 0.155, 0.835, 0.825))


def plane_in_words(results: Results, plane: Plane) -> str:
    """Every point of the plane, for those who cannot see it."""
    methods = method_names(results)
    scores = "; ".join(
        f"{methods[p.method]}: {_shown(results, plane.x, p.x)}, {_shown(results, plane.y, p.y)}" for p in plane.points
    )
    return f"{axis_label(results, plane.x)} and {axis_label(results, plane.y)} on {plane.set}. {scores}."


def draw_plane(axes: Axes, results: Results, plane: Plane, color: Callable[[int], str], ink: str, grid: str) -> None:
    """A marker a method; `color` gives its colour. Names belong into a legend beside the axes."""
    from matplotlib.ticker import MaxNLocator

    plain_axes(axes, ink, grid)
    for point in plane.points:
        marker = MARKERS[point.method % len(MARKERS)]
        axes.plot([point.x], [point.y], marker, color=color(point.method), markersize=8, clip_on=False)
    axes.margins(0.16, 0.16)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(axis_label(results, plane.x), color=ink)
    axes.set_ylabel(axis_label(results, plane.y), color=ink)
    _mark_best_corner(axes, results, plane, ink)


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Every figure as PNG and SVG into a folder; nothing where there is nothing to draw.

    `tradeoff_METRIC` is the plane of distortion and perception, one panel a set; `scores_METRIC` shows every picture's
    score, by method and set.
    """
    import matplotlib

    written = []
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mvmsr", "font.size": 9.0}):
        for name, figure in _figures(results):
            folder.mkdir(parents=True, exist_ok=True)
            for kind in ("png", "svg"):
                path = folder / f"{name}.{kind}"
                metadata = {"Date": None} if kind == "svg" else {}
                figure.savefig(path, dpi=160, facecolor="white", metadata=metadata)
                written.append(path)
    return written


def _figures(results: Results) -> Iterator[tuple[str, Figure]]:
    by_metric: dict[str, list[Plane]] = {}
    for plane in planes(results):
        by_metric.setdefault(plane.y, []).append(plane)
    for metric, found in by_metric.items():
        figure, axes = _grid_of_panels(results, [plane.set for plane in found])
        for one, plane in zip(axes, found, strict=True):
            draw_plane(one, results, plane, _file_color, _FILE_INK, _FILE_GRID)
        yield f"tradeoff_{metric}", figure
    for metric in results["metrics"]:
        sets = [name for name in set_names(results) if any(_scores(results, name, metric))]
        if sets:
            figure, axes = _grid_of_panels(results, sets)
            for one, name in zip(axes, sets, strict=True):
                _draw_scores(one, results, name, metric)
            yield f"scores_{metric}", figure


def _grid_of_panels(results: Results, sets: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """One panel a set, the methods' names above, the protocol below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(len(sets), 2)
    rows = math.ceil(len(sets) / columns)
    methods = method_names(results)
    figure = Figure(figsize=(max(4.0 * columns, 5.2), 3.1 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[i % len(MARKERS)], color=_file_color(i), label=_plain(method))
        for i, method in enumerate(methods)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(methods), 3 * columns), frameon=False)
    figure.supxlabel(_plain(title_of(results)), fontsize=7, color="#5d6570")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(sets))]
    for one, name in zip(axes, sets, strict=True):
        one.set_title(f"{_plain(name)} ({counted(pictures_of(results, name), 'image')})", fontsize=10, color=_FILE_INK)
    return figure, axes


def _draw_scores(axes: Axes, results: Results, set_name: str, metric: str) -> None:
    """Every picture a dot, placed by its rank so that dots do not hide each other; the mean a line."""
    plain_axes(axes, _FILE_INK, _FILE_GRID)
    scores = _scores(results, set_name, metric)
    for number, values in enumerate(scores):
        if not values:
            continue
        spread = [number + (i / max(len(values) - 1, 1) - 0.5) * 0.6 for i in range(len(values))]
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(spread, sorted(values), marker, color=_file_color(number), markersize=3.5, alpha=0.7)
        mean = sum(values) / len(values)
        axes.plot([number - 0.4, number + 0.4], [mean, mean], color=_FILE_INK, linewidth=1.5)
    axes.set_xticks(range(len(scores)), ["" for _ in scores])
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, len(scores) - 0.4)
    axes.set_ylabel(axis_label(results, metric), color=_FILE_INK)
    axes.set_xlabel("each image, sorted; line: mean", color=_FILE_INK)


def _scores(results: Results, set_name: str, metric: str) -> list[list[float]]:
    """The finite scores of the pictures, by method."""
    return [
        [
            row[metric]
            for row in results["images"]
            if (row["method"], row["set"]) == (method, set_name) and _is_finite(row.get(metric))
        ]
        for method in method_names(results)
    ]


def _mark_best_corner(axes: Axes, results: Results, plane: Plane, ink: str) -> None:
    """Says in which corner a method that is best in both would lie."""
    right, top = (bool(results["metrics"][metric]["higher_is_better"]) for metric in (plane.x, plane.y))
    pointer = {(True, True): "↗", (True, False): "↘", (False, True): "↖", (False, False): "↙"}[right, top]
    axes.text(
        *(0.985 if right else 0.015, 0.975 if top else 0.025),
        f"better {pointer}" if right else f"{pointer} better",
        transform=axes.transAxes,
        ha="right" if right else "left",
        va="top" if top else "bottom",
        color=ink,
        alpha=0.6,
        fontsize=9,
    )


def _plain(text: str) -> str:
    """Text that matplotlib can draw and does not take for mathematics."""
    return to_bytes(text).decode().replace("$", r"\$")


def _file_color(number: int) -> str:
    return COLORS[number % RUN_COLORS]


def _shown(results: Results, metric: str, value: float) -> str:
    return fixed(value, results["metrics"].get(metric, {}).get("decimals", 4))


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
