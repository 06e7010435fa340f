"""What is said when an options file cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mvmsr.counting import counted

MOST = 40
"""Problems that are listed; a file with more is most likely none of options."""

_LONGEST = 2000


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it stands, under which dotted key, and what would be right."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        key, message = _cut(self.key, 200), _cut(self.message, _LONGEST)
        is_named = not key or self.where == f"--set {key}"
        return f"{self.where}: {message}" if is_named else f"{self.where}: {key}: {message}"


class OptionsError(ValueError):
    """The options cannot be used; the message lists every problem (up to `MOST`) with file, line and key."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(p) for p in self.problems[:MOST]]
        if len(self.problems) > MOST:
            lines.append(f"and {counted(len(self.problems) - MOST, 'more problem')}")
        super().__init__("\n".join(lines))


def _cut(text: str, length: int) -> str:
    """The text, without its middle where it is long."""
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"
