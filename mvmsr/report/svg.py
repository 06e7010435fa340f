"""One panel as inline SVG: drawn by matplotlib, coloured by the page, so that it follows light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from mvmsr.report.curves import Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RUN_COLORS = 8
"""Runs that have a colour of their own; later ones begin anew."""
INK, GRID = "#0a0b0c", "#0a0b0d"
"""Colours that stand for the page's own until the SVG is put into it."""
_DASHES: tuple[Any, ...] = ("solid", (0, (4, 2)), (0, (1, 1.5)))
_MOST_POINTS, _FEW_POINTS = 600, 12


def draw(panel: Panel, name: str) -> str:
    """The panel as an `<svg>` element for an HTML page.

    Args:
        name: makes the ids inside it unique on the page.
    """

    def fill(axes: Axes) -> None:
        _style(axes, panel)
        for line in panel.lines:
            _plot(axes, line, panel.logarithmic)
        _limit(axes, panel)
        if panel.styles:
            _legend(axes, panel.styles)

    return inline_figure(fill, panel.alt, name, 2.5, (0.115, 0.115, 0.865, 0.855))


def inline_figure(
    fill: Callable[[Axes], None], alt: str, name: str, height: float, box: tuple[float, float, float, float]
) -> str:
    """A figure of one pair of axes as an `<svg>` element for an HTML page, in the page's colours.

    Args:
        fill: draws on the axes, in `INK`, `GRID` and `run_color`.
        alt: the figure in words.
        name: makes the ids inside it unique on the page.
        height: in inches; it is 4.4 wide.
        box: left, bottom, width and height of the axes, as shares of the figure.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9.0, "path.simplify": True}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.4, height))
        FigureCanvasSVG(figure)
        fill(figure.add_axes(box))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), alt, name)


def smooth(values: Sequence[float] | np.ndarray, log: bool = False) -> np.ndarray:
    """The values averaged with their neighbours, by a Gaussian of a fiftieth of their number; few are left as they are.

    Nan and infinite values take no part; where a whole neighbourhood has no other, the result is nan.

    >>> smooth([1.0, 2.0, 3.0])
    array([1., 2., 3.])

    Args:
        log: average logarithms, for positive values on a logarithmic scale.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) <= _FEW_POINTS:
        return array
    if log:
        return np.exp(smooth(np.log(array)))
    sigma = len(array) / 50
    offsets = np.arange(-math.ceil(2.5 * sigma), math.ceil(2.5 * sigma) + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    good = np.isfinite(array)
    weight = np.convolve(good.astype(np.float64), kernel, "same")
    total = np.convolve(np.where(good, array, 0.0), kernel, "same")
    return np.divide(total, weight, out=np.full(len(array), np.nan), where=weight > 0)


def thin(x: np.ndarray, y: np.ndarray, most: int = _MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about `most` points of a long curve: the lowest and the highest of every stretch, so that spikes stay."""
    if len(x) <= most:
        return x, y
    kept: list[int] = []
    for part in np.array_split(np.arange(len(x)), most // 2):
        known = part[np.isfinite(y[part])]
        if len(known):
            kept += sorted({int(known[np.argmin(y[known])]), int(known[np.argmax(y[known])])})
    return x[kept], y[kept]


def _plot(axes: Axes, line: Line, log: bool) -> None:
    x, raw = np.asarray(line.iterations), np.asarray(line.values, dtype=np.float64)
    raw = np.where(np.isfinite(raw), raw, np.nan)
    color, few = run_color(line.run), len(x) <= _FEW_POINTS
    if not few:
        axes.plot(*thin(x, raw), color=color, linewidth=0.7, alpha=0.3)
    marker = "o" if few else ""
    axes.plot(
        *thin(x, smooth(raw, log)),
        color=color,
        linewidth=1.5,
        linestyle=_DASHES[line.style % 3],
        marker=marker,
        markersize=3,
    )


def run_color(run: int) -> str:
    """A colour that stands for `var(--run0)` and so on."""
    return f"#0a0a{run % RUN_COLORS:02x}"


def plain_axes(axes: Axes, ink: str, grid: str) -> None:
    """A grid in place of a frame and ticks."""
    axes.grid(color=grid, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(colors=ink, length=0, labelsize=9)


def _style(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    plain_axes(axes, INK, GRID)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    values = [value for line in panel.lines for value in line.values if math.isfinite(value)]
    if panel.logarithmic:
        decades = math.log10(max(values) / min(values))
        axes.set_yscale("log")
        subs = (1, 1.5, 2, 3, 4, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 2.2 else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _limit(axes: Axes, panel: Panel) -> None:
    last = max((line.iterations[-1] for line in panel.lines), default=0)
    axes.set_xlim(0, max(last, 1) * 1.01)
    if panel.zero:
        top = max((v for line in panel.lines for v in line.values if math.isfinite(v)), default=1.0)
        axes.set_ylim(0, max(top, 1e-12) * 1.08)


def _legend(axes: Axes, styles: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=INK, linewidth=1.2, linestyle=_DASHES[i % 3], label=style)
        for i, style in enumerate(styles)
    ]
    axes.legend(handles=handles, loc="best", frameon=False, fontsize=9, labelcolor=INK, handlelength=2.2)


def _inline(text: str, alt: str, name: str) -> str:
    """The drawing without its document: no declarations, no fixed size or font, ids of its own, the page's colours."""
    view = re.search(r'viewBox="([^"]+)"', text)
    assert view is not None
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", body)
    # Coordinates need no more than two decimals; what is written on the axes keeps all of its own.
    body = re.sub(r"(<text.*?</text>)|(\d\.\d\d)\d+", lambda m: m[1] or m[2], body, flags=re.DOTALL)
    body = body.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    body = re.sub(r"#0a0a(0\d)", lambda match: f"var(--run{int(match[1])})", body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg viewBox="{view[1]}" role="img" aria-label="{escape(alt)}">{body.strip()}'
