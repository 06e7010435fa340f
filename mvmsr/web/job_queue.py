"""Visitors' jobs, run one after the other; each can be cancelled."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mvmsr.data.picture import ImageError
from mvmsr.web.folder import Folder
from mvmsr.web.job import Job, Result, run_job, size_within
from mvmsr.web.limits import Limits, Refused
from mvmsr.web.models import Models
from mvmsr.web.watch import Stopped, Watch


@dataclass(frozen=True)
class TimedResult:
    """A result, and how long it took in seconds."""

    result: Result
    seconds: float


class JobQueue:
    """Runs jobs, one at a time."""

    def __init__(self, models: Models, limits: Limits, folder: Folder) -> None:
        self.models, self.limits, self.folder = models, limits, folder
        self._at_work = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._closed = False

    def run(self, visitor: str, job: Job, on_progress: Callable[[float], object]) -> TimedResult:
        """Enlarges a visitor's picture.

        Raises:
            Refused: it cannot be done; the message says why, and names no path of this machine.
            Stopped: it was cancelled, or took too long.
        """
        name = job.source.name
        upscaler = self.models.upscaler(job.model, job.scale)
        place = watch = None
        try:
            height, width = size_within(job.source, job.scale, self.limits)
            with self._at_work:
                if self._closed:
                    raise Stopped("This page is being closed.")
                watch = self._watches[visitor] = Watch(height * width, self.limits.seconds, on_progress)
                place = self.folder.new()
                result = run_job(job, upscaler, place, watch, self.limits.pixels)
            place = None
            return TimedResult(result, watch.elapsed)
        except ImageError as error:
            raise Refused(f"{name} {error.cause}.") from error
        except OSError as error:
            raise Refused(f"{name} cannot be done: {error.strerror or type(error).__name__}.") from error
        except MemoryError as error:
            raise Refused(f"{name} does not fit into this machine's memory; choose a smaller scale.") from error
        except Refused:
            raise
        except (ValueError, RuntimeError, ArithmeticError) as error:
            raise Refused(f"{name} cannot be done: {error or type(error).__name__}") from error
        finally:
            if watch is not None and self._watches.get(visitor) is watch:
                del self._watches[visitor]
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)

    def cancel(self, visitor: str) -> None:
        """Stops the work on a visitor's picture, if there is any."""
        with suppress(KeyError):
            self._watches[visitor].stop()

    def close(self, seconds: float = 30.0) -> None:
        """Takes no more jobs, stops the work, and waits so long for its end, so that nothing is written any more."""
        self._closed = True
        for watch in list(self._watches.values()):
            watch.stop("This page is being closed.")
        if self._at_work.acquire(timeout=seconds):
            self._at_work.release()
