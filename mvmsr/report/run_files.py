"""What a run directory says about itself, read from its files alone; half-written ones are fine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mvmsr.config.errors import OptionsError
from mvmsr.config.yaml_source import read_yaml
from mvmsr.stats_record import parse_record

Record = dict[str, Any]


class ReportError(ValueError):
    """There is nothing to report on; the message says where something was expected."""


@dataclass(frozen=True)
class RunFiles:
    """A run as its files tell it.

    Attributes:
        label: what tables and legends call the run; unique on a page.
        options: the resolved options as plain values; empty where they are missing or damaged.
        options_text: `options.yml` as written.
        written_by: version and command, from the first line of `options.yml`.
        records: the readable lines of `stats.jsonl`, in their order.
        notes: what is missing or damaged, in sentences.
    """

    root: Path
    label: str
    options: dict[str, Any] = field(default_factory=dict)
    options_text: str = ""
    written_by: str = ""
    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()

    def option(self, *keys: str, default: Any = None) -> Any:
        """The option at these keys, or `default` where there is none."""
        value: Any = self.options
        for key in keys:
            if not isinstance(value, dict) or value.get(key) is None:
                return default
            value = value[key]
        return value

    def section(self, *keys: str) -> dict[str, Any]:
        """The section of the options at these keys; empty where there is none."""
        value = self.option(*keys)
        return value if isinstance(value, dict) else {}

    def series(self, key: str) -> tuple[list[int], list[float]]:
        """Iterations and values of everything logged under `key`; nan and infinite values are kept."""
        pairs = [(record["iter"], float(record[key])) for record in self.records if _is_number(record.get(key))]
        return [iteration for iteration, _ in pairs], [value for _, value in pairs]

    def keys(self) -> list[str]:
        """Every logged key with a number in it, in the order of first appearance."""
        return list(
            dict.fromkeys(k for record in self.records for k, v in record.items() if k != "iter" and _is_number(v))
        )

    @property
    def iteration(self) -> int:
        """The last iteration that something was logged for."""
        return max((record["iter"] for record in self.records), default=0)


def read_runs(roots: Sequence[Path]) -> list[RunFiles]:
    """The runs, each once, under labels that differ.

    Raises:
        ReportError: see `read_run`.
    """
    runs = [read_run(root) for root in {Path(root).resolve(): Path(root) for root in roots}.values()]
    labels = [run.label for run in runs]
    return [
        run if labels.count(run.label) == 1 else replace(run, label=f"{run.label} ({run.root.resolve()})")
        for run in runs
    ]


def read_run(root: Path) -> RunFiles:
    """One run directory; what is missing or damaged in it becomes a note.

    Raises:
        ReportError: there is no such directory, or it has neither options nor stats.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ReportError(f"{root} {what}; expected a run directory such as experiments/NAME, which training makes")
    options_path, stats_path = root / "options.yml", root / "stats.jsonl"
    if not options_path.is_file() and not stats_path.is_file():
        raise ReportError(
            f"{root} is no run directory: it has neither options.yml nor stats.jsonl. Name the folder of one run, such "
            "as experiments/NAME"
        )
    options, text, notes = _read_options(options_path)
    records, problems = read_stats(stats_path)
    if not records:
        problems = [*problems, "nothing has been logged yet, so there are no scores and curves"]
    name = options.get("name")
    return RunFiles(
        root=root,
        label=name if isinstance(name, str) else root.resolve().name,
        options=options,
        options_text=text,
        written_by=text.splitlines()[0].lstrip("# ") if text.startswith("#") else "",
        records=tuple(records),
        notes=(*notes, *problems, *not_finite(root)),
    )


def read_stats(path: Path) -> tuple[list[Record], list[str]]:
    """The records of a `stats.jsonl`, and a sentence for each kind of damage.

    A last line that was cut off by a crash or is being written right now is left out without a word.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path.name} cannot be read: {error}"]
    records: list[Record] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = parse_record(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):  # only a line that was ended can be damaged; the last one is merely not finished
            damaged.append(number)
    if not damaged:
        return records, []
    return records, [f"{path.name}: {_listed(damaged)} cannot be read and {_are(damaged)} left out"]


def not_finite(root: Path) -> list[str]:
    """A sentence where training met values that were not finite; it keeps their batches in `nonfinite/`."""
    names = sorted(path.name for path in (root / "nonfinite").glob("*_*") if path.name.partition("_")[0].isdigit())
    if not names:
        return []
    met = [f"{int(number):,} ({network.replace('_', ' ')})" for number, _, network in (n.partition("_") for n in names)]
    shown = ", ".join(met[:5]) + (", ..." if len(met) > 5 else "")
    return [f"a value was not finite in iteration {shown}; nonfinite/ has the images and values"]


def finite(values: Iterable[float]) -> list[float]:
    """The values without nan and infinities."""
    return [value for value in values if math.isfinite(value)]


def _read_options(path: Path) -> tuple[dict[str, Any], str, list[str]]:
    if not path.is_file():
        return {}, "", ["options.yml is missing, so it is unknown what was trained"]
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return read_yaml(path)[0], text, []
    except OptionsError as error:
        return {}, text, [f"the options cannot be read: {error}"]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"line{'s' if len(numbers) > 1 else ''} {shown}"


def _are(numbers: list[int]) -> str:
    return "are" if len(numbers) > 1 else "is"
