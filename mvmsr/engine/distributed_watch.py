"""Who is alive among the processes, what they are doing, and who is to blame when they cannot go on.

Each process writes a sign of life every second into the store by which the processes found each other. Nobody reads
them while all goes well.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from mvmsr.engine.distributed import OtherProcessError

BEAT_SECONDS = 1.0
_GRACE_SECONDS = 10.0
"""How long a process may take to leave after another has failed, before it is made to."""


@dataclass(frozen=True)
class _Sign:
    """A process's latest sign of life."""

    beat: int
    calls: int
    what: str
    where: str


class Watch:
    """The signs of life of all processes.

    Args:
        store: of `torch.distributed`; this object has it to itself.
        rank, size: which process this is, and of how many.
        patience_seconds: a process that gives no sign for this long counts as dead.
    """

    def __init__(self, store: Any, rank: int, size: int, patience_seconds: float) -> None:
        self.what, self.calls = "starting", 0
        self._store, self.rank, self.size, self.patience_seconds = store, rank, size, patience_seconds
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[_Sign | None, float]] = {}
        self._failure: tuple[int, str] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mvmsr-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more signs."""
        self._stopped.set()
        self._thread.join(5)

    def failed(self, rank: int, message: str) -> None:
        """Tell all processes that process `rank` failed; the first to tell is believed."""
        try:
            with self._lock:
                self._store.compare_set("failure", "", json.dumps([rank, message]))
        except RuntimeError:  # the store went down with its process; the others notice that too
            return

    def failure(self) -> OtherProcessError | None:
        """The error to leave with, if another process has told that one failed."""
        if self._failure is None:
            try:
                with self._lock:
                    if self._store.check(["failure"]):
                        self._failure = tuple(json.loads(self._store.get("failure")))
            except RuntimeError as error:
                return self._store_is_gone(error)
        if self._failure is None or self._failure[0] == self.rank:
            return None
        rank, message = self._failure
        return OtherProcessError(f"process {rank} of {self.size} {message} (this is process {self.rank})")

    def look(self) -> OtherProcessError | None:
        """The error to leave with if a process failed or has given no sign of life for too long."""
        if failure := self.failure():
            return failure
        now = time.monotonic()
        for rank in range(self.size):
            sign = self._read(rank)
            before, since = self._seen.get(rank, (None, now))
            self._seen[rank] = (sign, now if sign != before else since)
            if now - self._seen[rank][1] > self.patience_seconds:
                return self._blame(rank, f"gives no sign of life (killed or stopped), last seen {_at(sign)}")
        return None

    def explain(self, error: BaseException) -> RuntimeError:
        """The error to leave with when a collective operation failed: who failed, died or did not come to it."""
        if failure := self.failure():
            return failure
        before = [self._read(rank) for rank in range(self.size)]
        time.sleep(2.5 * BEAT_SECONDS)
        if failure := self.failure():
            return failure
        signs = [self._read(rank) for rank in range(self.size)]
        for rank, (old, new) in enumerate(zip(before, signs, strict=True)):
            if rank != self.rank and (new is None or new == old):
                return self._blame(rank, f"gives no sign of life (killed or stopped), last seen {_at(new)}")
        behind = min(range(self.size), key=lambda rank: signs[rank].calls if signs[rank] else 0)  # type: ignore[union-attr]
        sign = signs[behind]
        if behind != self.rank and sign is not None and sign.calls < self.calls:
            return self._blame(behind, f"hangs {_at(sign)}; its trace is among its messages")
        return OtherProcessError(f"process {self.rank} of {self.size} cannot reach the others ({self.what}): {error}")

    def _blame(self, rank: int, message: str) -> OtherProcessError:
        self.failed(rank, message)
        return self.failure() or OtherProcessError(f"process {rank} of {self.size} {message}")

    def _read(self, rank: int) -> _Sign | None:
        try:
            with self._lock:
                key = f"sign/{rank}"
                return _Sign(*json.loads(self._store.get(key))) if self._store.check([key]) else None
        except RuntimeError:
            return None

    def _store_is_gone(self, error: RuntimeError) -> OtherProcessError:
        return OtherProcessError(f"process 0 of {self.size} or its launcher is gone; process {self.rank} ends: {error}")

    def _beat(self) -> None:
        where = f"process id {os.getpid()} on {socket.gethostname()}"
        beat = 0
        while not self._stopped.is_set():
            beat += 1
            try:
                with self._lock:
                    self._store.set(f"sign/{self.rank}", json.dumps([beat, self.calls, self.what, where]))
                    told = self._store.check(["failure"])
            except RuntimeError:
                self._failure = self._failure or (0, "or its launcher is gone")
                told = True
            if told:
                self.failure()
                self._leave()
                return
            self._stopped.wait(BEAT_SECONDS)

    def _leave(self) -> None:
        """Another process says that one failed. If this process cannot leave by itself, it is made to."""
        blamed = self._failure is not None and self._failure[0] == self.rank
        if self._stopped.wait(BEAT_SECONDS if blamed else _GRACE_SECONDS):
            return
        try:
            print(f"process {self.rank} of {self.size} does not react ({self.what}); it ends here:", file=sys.stderr)
            faulthandler.dump_traceback(file=2, all_threads=True)
        finally:  # whatever became of its error stream
            os._exit(1)


def _at(sign: _Sign | None) -> str:
    return f"at {sign.what} ({sign.where})" if sign else "before its first sign"
