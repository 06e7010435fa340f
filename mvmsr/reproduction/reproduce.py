"""A table of the paper from nothing: train what is missing, benchmark, compare, write it down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mvmsr.benchmark.results import Results, write_text
from mvmsr.benchmark.writable import check_folder
from mvmsr.reproduction.claims import claims_of
from mvmsr.reproduction.document import Document, replace_section, to_json, to_latex, to_markdown
from mvmsr.reproduction.figures import write_figures
from mvmsr.reproduction.rows import Budget, ReproductionError, rows_of
from mvmsr.reproduction.runs import Run, curriculum_of, runs_of, stale_runs
from mvmsr.reproduction.scoring import METRICS, PAPER, Progress, Scores, benchmark, scores_by_row
from mvmsr.reproduction.training import Launch, train_missing
from mvmsr.reproduction.verdicts import judge_claim

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """What is to be reproduced.

    Attributes:
        only: keys of the rows to train; none means all. The others are shown as far as they are.
        options: the folder `options/reproduce`.
        overrides: of every training, as `--set` takes them; those beginning with `nmd.` are the discriminator's.
        metrics: by protocol.
    """

    table: str
    budget: Budget
    out: Path
    options: Path
    seeds: int = 1
    only: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    data_root: str | None = None
    metrics: Mapping[str, tuple[str, ...]] | None = None


def find_options() -> Path:
    """The folder `options/reproduce` of the working directory, else of the checkout that this package lies in.

    Raises:
        ReproductionError: there is none.
    """
    for base in (Path(), CHECKOUT):
        if (folder := base / "options" / "reproduce").is_dir():
            return folder
    raise ReproductionError(
        "no folder options/reproduce here; run in a checkout of the project, or name it by --options"
    )


def plan(settings: Settings) -> list[Run]:
    """The runs that are to be trained or continued, as far as they are.

    Raises:
        ReproductionError, OptionsError: see `runs_of`.
    """
    if settings.seeds < 1:
        raise ReproductionError(f"expected at least one seed, got {settings.seeds}")
    return runs_of(
        settings.table,
        settings.budget,
        settings.options,
        settings.out,
        settings.seeds,
        settings.overrides,
        settings.only,
    )


def reproduce(settings: Settings, launch: Launch | None = None, progress: Progress | None = None) -> Document:
    """Train what is missing of the chosen rows, benchmark every finished row of the table, and write the document.

    Raises:
        ReproductionError, OptionsError: see `runs_of`; nothing has been done.
        PlanError: `out` cannot be written, nothing has been done; or no set of the benchmark can be used.
        Interrupted: a training was stopped; the document is not written.
    """
    runs = plan(settings)
    check_folder(settings.out)
    failed = train_missing(runs, settings.data_root, launch)
    every = plan(replace(settings, only=()))
    results = benchmark(
        every, rows_of(settings.table), settings.out, settings.data_root, settings.metrics or METRICS, progress
    )
    document = describe(settings, results, failed)
    write(document, settings.out)
    return document


def describe(settings: Settings, results: Mapping[str, Results], failed: Mapping[str, str]) -> Document:
    """The document of what is known; draws the figures."""
    rows, runs = rows_of(settings.table), plan(replace(settings, only=()))
    stale = stale_runs(runs)
    current = [run for run in runs if run.key not in stale]
    shown = {run.key for run in current} | {f"{row.key}_seed0" for row in rows if not row.stem}
    scores: dict[str, Scores] = {
        protocol: scores_by_row({**found, "images": [x for x in found["images"] if x["method"] in shown]})
        for protocol, found in results.items()
    }
    ours = scores.get(PAPER, {})
    missing = {
        entry["metric"]: entry["why"]
        for found in results.values()
        for entry in found["missing"]
        if "image" not in entry
    }
    return Document(
        table=settings.table,
        budget=settings.budget,
        seeds=settings.seeds,
        rows=rows,
        runs=tuple(run for run in runs if run.row is not None),
        scores=scores,
        judgements=tuple(judge_claim(claim, ours) for claim in claims_of(settings.table)),
        failed={**stale, **failed, **_failures(results)},
        missing=missing,
        curriculum=next((told for run in runs if (told := curriculum_of(run))), ""),
        figures=write_figures(settings.table, rows, current, ours, settings.out, settings.data_root),
    )


def write(document: Document, out: Path) -> list[Path]:
    """Write TABLE.md, TABLE.tex and TABLE.json into `out`."""
    paths = [out / f"{document.table}.{suffix}" for suffix in ("md", "tex", "json")]
    plain = json.dumps(to_json(document), indent=1, ensure_ascii=False) + "\n"
    for path, text in zip(paths, (to_markdown(document), to_latex(document), plain), strict=True):
        write_text(path, text)
    return paths


def write_section(document: Document, path: Path) -> None:
    """Put the document, without its figures, into its place in a longer one."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_text(
        path, replace_section(text, f"{document.table} {document.budget}", to_markdown(replace(document, figures={})))
    )


def _failures(results: Mapping[str, Results]) -> dict[str, str]:
    """What could not be scored, by run; whole sets that are absent show in every row's state."""
    return {
        failure["method"]: f"not scored: {failure['why']}"
        for found in results.values()
        for failure in found["failures"]
        if failure.get("method")
    }
