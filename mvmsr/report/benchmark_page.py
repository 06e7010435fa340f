"""A benchmark's results as one HTML page: scores, pictures to compare, charts, differences, cost and origin."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mvmsr import __version__
from mvmsr.benchmark.results import Results, ResultsError, merge_results, read_results, write_text
from mvmsr.benchmark.table import metric_name, title_of
from mvmsr.report.benchmark_originals import Originals
from mvmsr.report.benchmark_pictures import ORIGINAL, Comparison, compare_pictures, set_names
from mvmsr.report.benchmark_plots import legend_marker, method_names, plane_svg, planes, write_plots
from mvmsr.report.benchmark_sections import (
    ScoreTable,
    chart_data,
    cost_rows,
    difference_tables,
    gaps,
    origins,
    score_tables,
)
from mvmsr.report.run_files import ReportError
from mvmsr.report.svg import RUN_COLORS
from mvmsr.report.templates import template, verbatim

RESULTS = "results.json"


def write_benchmark_report(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    sets: Sequence[str] = (),
    data_root: str | Path | None = None,
    keep_originals: bool = False,
) -> list[Path]:
    """Write the page, whole or not at all, and return what was written.

    Without `out` that is `report.html` in the folder of the first results, and figures in `plots` beside it.

    Args:
        paths: folders that `mvmsr test` wrote to, or their results.json; a later one replaces an earlier one's rows of
            the same method and set.
        sets, data_root, keep_originals: see `Originals`.

    Raises:
        ReportError: see `read_benchmark`.
        OSError: a file cannot be written.
    """
    results, folders = read_benchmark(paths)
    original = Originals(folders, results["protocol"]["scale"], sets, data_root, keep_originals)
    page = out or folders[0] / "report.html"
    write_text(page, build_benchmark_report(results, *compare_pictures(results, folders, original)))
    return [page] if out is not None else [page, *write_plots(results, folders[0] / "plots")]


def read_benchmark(paths: Sequence[Path]) -> tuple[Results, list[Path]]:
    """The results as one document, and their folders.

    Raises:
        ReportError: there are no results, they cannot be read, or follow different protocols.
    """
    files = [path / RESULTS if path.is_dir() else path for path in dict.fromkeys(paths)]
    try:
        return merge_results([read_results(file) for file in files]), [file.parent for file in files]
    except ResultsError as error:
        raise ReportError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        names = ", ".join(map(str, files))
        raise ReportError(f"{names}: not as `mvmsr test` writes them ({type(error).__name__}: {error})") from error


def is_benchmark(path: Path) -> bool:
    """Whether a path is results of `mvmsr test`, not a run directory."""
    if path.is_dir():
        return (path / RESULTS).is_file() and not (path / "options.yml").exists()
    return path.suffix == ".json" and path.is_file()


def build_benchmark_report(
    results: Results, comparisons: Sequence[Comparison] = (), picture_notes: Sequence[str] = ()
) -> str:
    """One HTML page that needs nothing besides itself.

    Args:
        comparisons, picture_notes: of `compare_pictures`.
    """
    methods, sets = method_names(results), set_names(results)
    tables, chart = score_tables(results), chart_data(results)
    settings = results.get("statistics_settings") or {}
    how = f"{settings['method'].capitalize()}, {settings['resamples']:,} resamples. " if settings else ""
    left, right = _first_shown(results, comparisons)
    return template("benchmark_page.html").render(
        style=verbatim("benchmark_style.css"),
        script=verbatim("benchmark_script.js"),
        title=f"{_listed(methods)} on {_listed(sets)}" if methods else "Benchmark without scores",
        summary=f"×{results['protocol']['scale']} super-resolution. {title_of(results)}.",
        protocol=title_of(results),
        methods=methods,
        colors=RUN_COLORS,
        markers=[legend_marker(number) for number in range(len(methods))],
        gaps=[gap.partition("\n")[::2] for gap in gaps(results)],
        tables=_with_starts(tables),
        has_gaps=any(cell.text == "-" for table in tables for _, _, cells in table.rows for cell in cells),
        footnote=next((table.footnote for table in tables if table.footnote), ""),
        comparisons=comparisons,
        picture_notes=picture_notes,
        planes=_planes(results),
        chart=len(methods) > 1 and bool(chart["metrics"]) and bool(chart["images"]),
        differences=difference_tables(results),
        confidence=f"{settings['confidence']:.0%}" if "confidence" in settings else "",
        how_sure=how,
        costs=cost_rows(results),
        origins=origins(results),
        version=__version__,
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        data={"chart": chart, "pictures": [_picture(one) for one in comparisons], "left": left, "right": right},
    )


def _planes(results: Results) -> list[dict[str, Any]]:
    from markupsafe import Markup

    return [
        {
            "title": f"{plane.set}: {metric_name(plane.y)} against {metric_name(plane.x)}",
            "svg": Markup(plane_svg(results, plane, f"plane{number}")),
        }
        for number, plane in enumerate(planes(results))
    ]


def _with_starts(tables: Sequence[ScoreTable]) -> list[dict[str, Any]]:
    """The tables, with the columns at which sets begin."""
    drawn = []
    for table in tables:
        widths = [width for _, _, width in table.sets]
        starts = {sum(widths[:i]) for i in range(len(widths))}
        drawn.append({"sets": table.sets, "heads": table.heads, "rows": table.rows, "starts": starts})
    return drawn


def _picture(comparison: Comparison) -> dict[str, Any]:
    """What the script needs of a picture; its crops and thumbnail stand in the page itself."""
    return {
        "set": comparison.set,
        "image": comparison.image,
        "width": comparison.width,
        "height": comparison.height,
        "cut": comparison.cut,
        "places": [[place.x, place.y, place.side] for place in comparison.places],
        "versions": [{"name": version.name, "src": version.uri} for version in comparison.versions],
    }


def _first_shown(results: Results, comparisons: Sequence[Comparison]) -> tuple[str, str]:
    """What a reader sees first: bicubic or else the first method, and the best of the others by the first metric."""
    methods = method_names(results)
    if not methods or not results["metrics"]:
        return "", ""
    metric, about = next(iter(results["metrics"].items()))
    sign = 1 if about.get("higher_is_better", True) else -1

    def score(method: str) -> float:
        rows = [row for row in results["means"] if row["method"] == method]
        means = [row[metric] for row in rows if row.get(metric) is not None]  # merged results lack some metrics
        return sign * sum(means) / len(means) if means else -math.inf

    shown = {version.name for comparison in comparisons for version in comparison.versions}
    left = "bicubic" if "bicubic" in {*methods, *shown} else methods[0]
    others = [method for method in methods if method != left]
    return left, max(others, key=score) if others else ORIGINAL


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
