"""What to say of an options file that cannot be read, and which one may have been meant."""

from __future__ import annotations

from pathlib import Path

from mvmsr.registry import closest

_OPTIONS = Path("options")
"""Where the options files of a clone are, from its root."""


def why_unreadable(path: Path, error: Exception) -> str:
    """The cause in words, and the nearest file beside it or among `options/` where it does not exist."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"there is no such options file.{_nearest(path)}"
    if isinstance(error, IsADirectoryError):
        inside = next(iter(_yaml_files(path)), None)
        return "this is a folder; name an options file" + (f", such as {inside}" if inside else "")
    reason = error.strerror if isinstance(error, OSError) else error
    return f"cannot read the options file: {reason}"


def _nearest(path: Path) -> str:
    folders = [path.parent, *sorted(folder for folder in _OPTIONS.glob("**") if folder != path.parent)]
    by_name: dict[str, Path] = {}
    for folder in folders:
        for file in _yaml_files(folder):
            by_name.setdefault(file.name, file)
    name = closest(path.name, by_name)
    return f" Did you mean {by_name[name]}?" if name else ""


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(file for ending in ("yml", "yaml") for file in folder.glob(f"*.{ending}"))
