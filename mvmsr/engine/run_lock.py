"""One process at a time trains a run: two that continue the same one would delete each other's checkpoints."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


class RunBusyError(RuntimeError):
    """Another process trains the run; the message says which."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """While inside, no other process gets here with the same folder, which exists.

    The system drops the lock when the process ends, however it ends. File systems that cannot lock are left unlocked.

    Raises:
        RunBusyError: another process holds the lock.
        OSError: the folder cannot be written.
    """
    if fcntl is None:
        yield
        return
    path = root / _NAME
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunBusyError(
                f"{root} is being trained by {holder}; wait for it or stop it, or start another run beside it with "
                f"--set name=... (If no such process exists, delete {path}.)"
            ) from error
        except OSError:  # no locks on this file system
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
