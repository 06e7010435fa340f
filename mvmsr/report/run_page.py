"""Puts a report together: facts, scores, benchmark tables, curves, pictures and options on one page."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvmsr import __version__
from mvmsr.benchmark.gaps import failed, not_computed
from mvmsr.benchmark.results import Results, ResultsError, merge_results, read_results, write_text
from mvmsr.benchmark.table import Grid, grids
from mvmsr.report import embeddings
from mvmsr.report.curves import Group, groups
from mvmsr.report.pictures import galleries
from mvmsr.report.run_files import ReportError, RunFiles, read_runs
from mvmsr.report.scores import facts, score_table
from mvmsr.report.svg import RUN_COLORS, draw
from mvmsr.report.templates import template


@dataclass(frozen=True)
class Benchmark:
    """Results of one protocol: tables, and what has no score."""

    tables: tuple[Grid, ...]
    gaps: tuple[str, ...]
    provenance: str


def build_report(runs: Sequence[Path], results: Sequence[Path] = ()) -> str:
    """One self-contained HTML page about the runs, side by side, and about benchmark results.

    Args:
        runs: run directories; what is missing in one is left out of the page.
        results: `results.json` files; those of one protocol share their tables.

    Raises:
        ReportError: a run directory or results file does not exist or is something else, or nothing was named.
    """
    if not runs and not results:
        raise ReportError("nothing to report on; name at least one run directory, such as experiments/NAME")
    found = read_runs(runs)
    benchmarks = _benchmarks(results)
    pictures, picture_notes = galleries(found)
    notes = [(run.label, note) for run in found for note in run.notes] + [("images", note) for note in picture_notes]
    maps, map_notes = _embeddings(found)
    notes += [("embeddings", note) for note in map_notes]
    return template("page.html").render(
        title=", ".join(run.label for run in found) or "benchmark",
        version=__version__,
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        runs=[(number % RUN_COLORS, run) for number, run in enumerate(found)],
        facts=facts(found),
        scores=score_table(found),
        benchmarks=benchmarks,
        curves=[*(_drawn(group) for group in groups(found)), *maps],
        galleries=pictures,
        notes=notes,
        run_colors=RUN_COLORS,
    )


def write_report(runs: Sequence[Path], out: Path | None = None, results: Sequence[Path] = ()) -> Path:
    """Write `build_report`'s page, whole or not at all, and return where.

    Args:
        out: the file; by default `report.html` in the first run.

    Raises:
        ReportError: see `build_report`.
        OSError: the file cannot be written.
    """
    page = build_report(runs, results)
    if out is None:
        if not runs:
            raise ReportError("without a run, say where the report goes")
        out = Path(runs[0]) / "report.html"
    write_text(out, page)
    return out


def _drawn(group: Group) -> dict[str, Any]:
    from markupsafe import Markup

    figures = [
        {
            "title": panel.title + (" (log scale)" if panel.logarithmic else ""),
            "svg": Markup(draw(panel, f"{group.key}{number}")),
        }
        for number, panel in enumerate(group.panels)
    ]
    shown = {line.run for panel in group.panels for line in panel.lines}
    return {"key": group.key, "title": group.title, "about": group.about, "figures": figures, "runs": shown}


def _embeddings(runs: Sequence[RunFiles]) -> tuple[list[dict[str, Any]], list[str]]:
    figures, notes, shown = embeddings.figures(runs, "embeddings")
    about = (
        "Patches of the validation images, which training does not see. The eigenvalues are those of the real "
        "patches' distance matrix, by rank: the more equal they are, the more directions the metric network uses. "
        "The map shows where real and generated patches lie."
    )
    group = {"key": "embeddings", "title": "The embedding space", "about": about, "figures": figures, "runs": shown}
    return [group] if figures else [], notes


def _benchmarks(paths: Sequence[Path]) -> list[Benchmark]:
    """The results, merged where they follow one protocol: figures of different ones must not share a table."""
    try:
        parts = [read_results(path) for path in dict.fromkeys(paths)]
    except ResultsError as error:
        raise ReportError(str(error)) from error
    by_protocol: list[list[Results]] = []
    for part in parts:
        group = next((g for g in by_protocol if g[0]["protocol"] == part["protocol"]), None)
        if group is None:
            by_protocol.append([part])
        else:
            group.append(part)
    try:
        return [_benchmark(merge_results(group)) for group in by_protocol]
    except (KeyError, TypeError, AttributeError) as error:
        names = ", ".join(map(str, paths))
        raise ReportError(f"{names}: not as `mvmsr test` writes them ({type(error).__name__}: {error})") from error


def _benchmark(results: Results) -> Benchmark:
    gaps = (*not_computed(results), *failed(results))
    about = {**results.get("machine", {}), **results.get("versions", {})}
    provenance = ", ".join(f"{key} {value}" for key, value in about.items())
    return Benchmark(tuple(grids(results)), gaps, f"{results.get('date', '')} on {provenance}".strip())
