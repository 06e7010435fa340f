"""What the doctor finds, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


class State(str, Enum):
    """How a thing is; only `broken` makes the command fail."""

    ok = "ok"
    note = "note"
    missing = "missing"
    broken = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: the part of the report that it belongs to.
        text: what was found.
        remedy: what to do, where something should be done.
        values: figures for programs.
    """

    section: str
    name: str
    state: State
    text: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def is_broken(findings: Iterable[Finding]) -> bool:
    """Whether anything is broken (not merely missing)."""
    return any(finding.state is State.broken for finding in findings)


def as_document(findings: Iterable[Finding]) -> dict[str, Any]:
    """For `--json`: `{"ok": ..., "findings": [{"section", "name", "state", "text", "remedy", "values"}]}`."""
    findings = list(findings)
    return {
        "ok": not is_broken(findings),
        "findings": [{**asdict(finding), "state": finding.state.value} for finding in findings],
    }


def rich_table(section: str, findings: Iterable[Finding]) -> Table:
    """One section for a terminal."""
    from rich.table import Table
    from rich.text import Text

    styles = {State.ok: "green", State.note: "yellow", State.missing: "yellow", State.broken: "bold red"}
    table = Table(title=section, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.text)
        if finding.remedy:
            text.append(f"\n-> {finding.remedy}", style="dim" if finding.state is State.ok else "")
        table.add_row(Text(finding.state.value, styles[finding.state]), Text(finding.name), text)
    return table
