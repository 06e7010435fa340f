"""The one folder that the server writes to: uploads and results, readable by nobody else, gone when it ends."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path


class Folder:
    """A private temporary folder.

    Attributes:
        root: all of it, with the rights of its owner alone.
        files: what is served, in one folder for each upload, named by its checksum, and each result, named at random.
        parts: what is not: uploads under way.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mvmsr-web-")).resolve()
        self.files, self.parts = self.root / "files", self.root / "parts"
        self.files.mkdir()
        self.parts.mkdir()

    def new(self) -> Path:
        """An empty folder for the files of one result."""
        made = self.files / secrets.token_hex(20)
        made.mkdir()
        return made

    def bytes(self) -> int:
        """The size of all files in it."""
        total = 0
        for path in self.root.rglob("*"):
            with suppress(OSError):  # swept in between
                total += path.stat().st_size if path.is_file() else 0
        return total

    def sweep(self, seconds: float) -> None:
        """Removes what nobody has changed for so long."""
        limit = time.time() - seconds
        for path in [*self.files.iterdir(), *self.parts.iterdir()]:
            with suppress(OSError):
                newest = max(entry.stat().st_mtime for entry in [path, *path.rglob("*")])
                if newest < limit:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.root, ignore_errors=True)
