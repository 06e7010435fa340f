"""A reproduced table as a document: ours beside the paper's figures, what is missing, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mvmsr.benchmark.markdown import markdown_table
from mvmsr.counting import counted
from mvmsr.reproduction.published import DECIMALS, METRICS, PUBLISHED, SETS
from mvmsr.reproduction.rows import Budget, Row
from mvmsr.reproduction.runs import Run
from mvmsr.reproduction.scoring import LUMA, PAPER, Score, Scores
from mvmsr.reproduction.verdicts import Judgement

_SHOWN = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "niqe": "NIQE", "st_lpips": "ST-LPIPS"}
_TITLES = {
    "table3": "Table 3: MvM in place of a GAN, three backbones (x4)",
    "table5": "Table 5: MvM beside a GAN, in place of a perceptual term (x4)",
}
_BUDGETS = {
    "cpu": "The runs are small ones for two CPU cores (options/reproduce/cpu): their order is to be compared with the "
    "paper's, not their values.",
    "paper": "The runs have the paper's scale (options/reproduce).",
}
_PARTIAL = (
    "A mean marked [n of N] lacks images that another row has; means over different images cannot be compared, so "
    "no claim is judged by it."
)
_FEWER_SEEDS = "A mean marked [n of N seeds] is over the seeds that are trained; the others are still lacking."
_BICUBIC = "The paper's bicubic row was measured on luma"
_SEEDS = (
    "A difference is called beyond chance where the 95 % interval over the images leaves out zero and the means over "
    "the seeds, where a row has several, differ by more than twice the standard error, sqrt(s_a²/n_a + s_b²/n_b)."
)
_COLUMNS_OF = {PAPER: (*METRICS, "st_lpips"), LUMA: ("psnr", "ssim")}


@dataclass(frozen=True)
class Document:
    """Everything that a reproduced table says.

    Attributes:
        runs: of the rows, finished or not.
        scores: by protocol.
        judgements: of the claims, under the paper's convention.
        failed: why a run could not be finished, by its key.
        missing: metrics that could not be computed, and why.
        figures: paths of pictures beside the document, by caption.
        curriculum: how far the natural manifold discriminator's came, if there is one.
    """

    table: str
    budget: Budget
    seeds: int
    rows: tuple[Row, ...]
    runs: tuple[Run, ...]
    scores: Mapping[str, Scores]
    judgements: tuple[Judgement, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    curriculum: str = ""

    @property
    def complete(self) -> bool:
        """Whether every row is trained and scored on every set."""
        return all(self._progress(row) == "done" for row in self.rows) and not self.failed

    def status(self, row: Row) -> str:
        """How far a row is: `done`, else what each of its seeds lacks; and how far its discriminator's curriculum."""
        progress = self._progress(row)
        return f"{progress}; {self.curriculum}" if row.needs_nmd and self.curriculum else progress

    def _progress(self, row: Row) -> str:
        runs = [run for run in self.runs if run.row == row]
        told = [self.failed.get(run.key, run.status) for run in runs]
        lacking = [what for what in told if what != "done"]
        if lacking and len(runs) == 1:
            return lacking[0]
        if lacking:
            each = [f"seed {r.seed}: {what}" for r, what in zip(runs, told, strict=True) if what != "done"]
            return "; ".join([f"{len(runs) - len(lacking)} of {len(runs)} seeds done", *each])
        scored = self.scores.get(PAPER, {}).get(row.key, {})
        absent = [name for name in SETS if "psnr" not in scored.get(name, {})]
        return "done" if not absent else f"{'trained' if runs else 'not yet run'}, not scored on {', '.join(absent)}"


def to_markdown(document: Document) -> str:
    """The document for reading."""
    lines = [f"## {_TITLES[document.table]}", "", _BUDGETS[document.budget], ""]
    lines += [
        f"{counted(document.seeds, 'seed')} a row"
        + ("; means and standard deviations over the seeds." if document.seeds > 1 else "."),
        "",
        markdown_table(("row", "state"), [(row.label, _one_line(document.status(row))) for row in document.rows], ()),
        "",
        f"### Ours (the paper's), by its convention: `{PAPER}`",
        "",
    ]
    if any(not row.stem for row in document.rows):
        lines += [f"{_BICUBIC}: compare it with the tables of `y`.", ""]
    for set_name in SETS:
        lines += [_set_table(document, set_name, PAPER), ""]
    if document.scores.get(LUMA):
        lines += [f"### Ours on luma: `{LUMA}`", ""]
        for set_name in SETS:
            lines += [_set_table(document, set_name, LUMA), ""]
    if note := _footnote(document):
        lines += [note, ""]
    if document.missing:
        lines += [
            *(f"- {_SHOWN.get(name, name)}: {' '.join(why.split())}" for name, why in document.missing.items()),
            "",
        ]
    lines += [
        "### What the paper concludes",
        "",
        *([_SEEDS, ""] if document.seeds > 1 else []),
        markdown_table(
            ("claim", "on our figures"),
            [(judged.claim.text, _one_line(judged.text)) for judged in document.judgements],
            (),
        ),
        "",
    ]
    for caption, path in document.figures.items():
        lines += [f"![{caption}]({path})", "", f"*{caption}*", ""]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(document: Document) -> str:
    """One tabular (booktabs): ours, with the paper's figures in brackets, and notes below it."""
    head = " & ".join(rf"\multicolumn{{2}}{{c}}{{{name}}}" for name in SETS)
    second = " & ".join("PSNR & SSIM" for _ in SETS)
    lines = [
        rf"\begin{{tabular}}{{l{'rr' * len(SETS)}}}",
        r"\toprule",
        rf" & {head} \\",
        rf"row & {second} \\",
        r"\midrule",
    ]
    for row in document.rows:
        cells = [_cell(document, row, name, metric, PAPER) for name in SETS for metric in ("psnr", "ssim")]
        latex = " & ".join(cell.replace("–", "--").replace("±", r"$\pm$") for cell in cells)
        lines.append(rf"{row.label} & {latex} \\")
    notes = [f"{_BICUBIC}, ours on RGB: the two cannot be compared."] if any(not r.stem for r in document.rows) else []
    notes += [note] if (note := _footnote(document)) else []
    below = [rf"\par{{\footnotesize {note}\par}}" for note in notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *below]) + "\n"


def to_json(document: Document) -> dict[str, Any]:
    """The document as plain values."""
    return {
        "table": document.table,
        "budget": document.budget,
        "seeds": document.seeds,
        "complete": document.complete,
        "rows": [
            {
                "key": row.key,
                "label": row.label,
                "state": document.status(row),
                "published": PUBLISHED[document.table][row.key],
                "ours": {
                    protocol: {
                        name: {metric: _plain(score) for metric, score in metrics.items()}
                        for name, metrics in scores.get(row.key, {}).items()
                    }
                    for protocol, scores in document.scores.items()
                },
            }
            for row in document.rows
        ],
        "runs": [
            {"key": run.key, "folder": str(run.folder), "state": document.failed.get(run.key, run.status)}
            for run in document.runs
        ],
        "claims": [judged.as_dict() for judged in document.judgements],
        "missing": dict(document.missing),
    }


def replace_section(text: str, name: str, section: str) -> str:
    """`text` with a section between its markers replaced, or added at the end.

    >>> replace_section("a\\n<!-- x -->\\nold\\n<!-- end x -->\\nb\\n", "x", "new\\n")
    'a\\n<!-- x -->\\nnew\\n<!-- end x -->\\nb\\n'
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
    whole = begin + section + end
    if begin in text and end in text:
        before, _, rest = text.partition(begin)
        return before + whole + rest.partition(end)[2]
    return text.rstrip("\n") + ("\n\n" if text.strip() else "") + whole


def _set_table(document: Document, set_name: str, protocol: str) -> str:
    metrics = [m for m in _COLUMNS_OF[protocol] if m in METRICS or _has(document, protocol, m)]
    arrows = {"psnr": "↑", "ssim": "↑"}
    head = [set_name, *(f"{_SHOWN[metric]} {arrows.get(metric, '↓')}" for metric in metrics)]
    rows = [[row.label, *(_cell(document, row, set_name, m, protocol) for m in metrics)] for row in document.rows]
    return markdown_table(head, rows, range(1, len(head)))


def _cell(document: Document, row: Row, set_name: str, metric: str, protocol: str) -> str:
    score = document.scores.get(protocol, {}).get(row.key, {}).get(set_name, {}).get(metric)
    decimals = DECIMALS.get(metric, 4)
    ours = "–"
    if score is not None:
        ours = f"{score.mean:.{decimals}f}"
        if score.deviation is not None:
            ours += f" ± {score.deviation:.{decimals}f}"
        if score.part:
            ours += f" [{score.part}]"
        if row.stem and score.seeds < document.seeds:
            ours += f" [{score.seeds} of {document.seeds} seeds]"
    published = PUBLISHED[document.table][row.key][set_name].get(metric)
    return f"{ours} ({published:.{decimals}f})" if published is not None and protocol == PAPER else ours


def _footnote(document: Document) -> str:
    shown = [
        (row, score)
        for scores in document.scores.values()
        for row in document.rows
        for metrics in scores.get(row.key, {}).values()
        for score in metrics.values()
    ]
    notes = [_PARTIAL] if any(score.part for _, score in shown) else []
    notes += [_FEWER_SEEDS] if any(row.stem and score.seeds < document.seeds for row, score in shown) else []
    return " ".join(notes)


def _has(document: Document, protocol: str, metric: str) -> bool:
    rows = document.scores.get(protocol, {}).values()
    return any(metric in metrics for sets in rows for metrics in sets.values())


def _plain(score: Score) -> dict[str, Any]:
    plain = asdict(score)
    plain["images"] = len(score.images)
    return plain


def _one_line(text: str) -> str:
    return " ".join(text.split())
