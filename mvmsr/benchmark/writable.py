"""Whether results will find room, asked before the work and not after it."""

from __future__ import annotations

import os
from pathlib import Path

from mvmsr.benchmark.plan import PlanError


def check_folder(folder: Path) -> None:
    """Whether files can be made in a folder, which need not exist; nothing is made.

    Raises:
        PlanError: a file is in the way, or permission is lacking.
    """
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise PlanError(f"{folder} cannot be made, {nearest} is a file; name another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PlanError(
            f"{folder} cannot be written, {nearest} may not be changed; correct its permissions or name another folder"
        )
