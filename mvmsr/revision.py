"""Which state of the source code is running, where it runs from a git checkout."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_SECONDS = 5.0


@cache
def revision(package: Path = PACKAGE) -> str | None:
    """The commit that a package's folder is at, 12 hexadecimal digits, with `+changes` where its files differ from it.

    None for an installed package, or where git is missing or refuses.
    """
    if not (package.parent / ".git").exists():  # a package inside somebody else's repository is not its commit
        return None
    commit = _git(package, "rev-parse", "--short=12", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".")
    if not commit or changes is None:
        return None
    return f"{commit}+changes" if changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]  # nobody's own git has to wait
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
