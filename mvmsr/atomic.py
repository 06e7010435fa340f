"""Files and folders that take another's place whole or not at all, on any file system.

Most file systems rename over an existing file in one step. None does so over a folder that is not empty, and some
(network shares, FAT through FUSE) not over a file either. There the old one is moved aside first, as `.NAME.old`, and
`recover` puts it back where the process died before the new one was in its place.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_OLD = ".old"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, sync it, and put it in place.

    Raises:
        OSError: the disk refused; what was at `path` is still there.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(aside, path)
    finally:
        if aside.exists():
            aside.unlink()


def put_in_place(new: Path, path: Path) -> None:
    """Rename the file or folder `new` to `path`, which may exist and lies on the same disk; its folder is synced.

    Raises:
        IsADirectoryError: a file is to replace a folder.
    """
    if path.is_dir() and not new.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    old = path.with_name(f".{path.name}{_OLD}")
    if new.is_dir() and path.exists():
        _exchange(new, path, old)
    else:
        try:
            os.replace(new, path)
        except OSError:
            if not path.exists():
                raise
            _exchange(new, path, old)
    sync(path.parent)


def recover(folder: Path) -> None:
    """Finish or undo every exchange in the folder that a dying process left in the middle."""
    if not folder.is_dir():
        return
    for old in folder.glob(f".*{_OLD}"):
        path = old.with_name(old.name[1 : -len(_OLD)])
        if path.exists():
            remove(old)
        else:
            os.rename(old, path)


def remove(path: Path) -> None:
    """Delete a file or folder; a folder under another name first, so that no half of it is taken for the whole."""
    if path.is_dir():
        doomed = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.tmp")
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(path, doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, path: Path, old: Path) -> None:
    if old.exists():
        remove(old)
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    remove(old)
