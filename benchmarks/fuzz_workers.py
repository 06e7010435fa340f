"""Runs the cases of a fuzzing subject in a process that may crash, hang or swell without taking the program along."""

from __future__ import annotations

import gc
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

CPU_SECONDS, WALL_SECONDS = 2.0, 300.0
"""What a case may take; the wall clock only catches what waits, since the machine may have other work."""
MEMORY_BYTES = 2**30
"""What a case may add to the worker's resident memory."""
_ADDRESS_SPACE = 8 * 2**30  # beyond what is taken at the start; keeps a runaway from taking the machine
_LONGEST_MESSAGE = 16_384
_KEPT_PER_FINDING = 3
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Case:
    """One input: what is written, under which suffix, and how it was made."""

    label: str
    suffix: str
    data: bytes


class Subject(Protocol):
    """What is fuzzed."""

    name: str
    refusals: tuple[type[Exception], ...]
    """The package's own errors, which must name the file."""

    def make(self, rng: random.Random, canary: Path) -> Case:
        """A case; code that it carries would create the file `canary`."""

    def read(self, path: Path) -> str:
        """Reads the case as the package's users would; what came of it in a word. Raises what the package raises."""


class Finding(AssertionError):
    """Something that a subject itself found to be wrong."""


@dataclass
class Report:
    """What came of a subject's cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def add_finding(self, what: str, index: int, label: str) -> None:
        found = self.findings.setdefault(what, {"count": 0, "cases": []})
        found["count"] += 1
        if len(found["cases"]) < _KEPT_PER_FINDING:
            found["cases"].append([index, label])


def case_of(subject: Subject, seed: int, index: int, canary: Path) -> Case:
    """The case of that number; the same for a seed, whichever cases ran before."""
    return subject.make(random.Random(f"{seed}:{subject.name}:{index}"), canary)


def run(subject: Subject, seed: int, indices: range, keep: Path, seconds: float = math.inf) -> Report:
    """Runs cases one by one, for that long; files of findings are put into `keep`."""
    report, start = Report(), time.perf_counter()
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        canary, position = Path(folder) / "canary", indices.start
        while position < indices.stop and time.monotonic() < deadline:
            position = _one_worker(subject, seed, range(position, indices.stop), Path(folder), report, deadline)
        for what, found in report.findings.items():
            found["files"] = [_keep(subject, seed, index, keep, what, canary) for index, _ in found["cases"]]
    report.wall_seconds = time.perf_counter() - start
    return report


def _keep(subject: Subject, seed: int, index: int, keep: Path, what: str, canary: Path) -> str:
    case = case_of(subject, seed, index, canary)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{subject.name}-{seed}-{index}{case.suffix}"
    path.write_bytes(case.data)
    path.with_name(path.name + ".txt").write_text(f"{case.label}\n{what}\n", encoding="utf-8")
    return path.name


def _one_worker(subject: Subject, seed: int, indices: range, folder: Path, report: Report, deadline: float) -> int:
    """Forks a worker and watches it; the index after the last case that it has done or died of."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _work(subject, seed, indices, folder, writing)
        except BaseException:
            _tell(writing, {"failed": traceback.format_exc()})
            os._exit(3)
        os._exit(0)
    os.close(writing)
    index, label, began, cpu = indices.start, "", time.monotonic(), 0.0
    verdict, running = "", False
    with os.fdopen(reading, "r", encoding="utf-8") as lines:
        for message in _messages(lines):
            if message is None:  # nothing new for a moment
                used = _cpu_seconds(child)
                if running and used - cpu > CPU_SECONDS + 1:
                    verdict = f"hangs: more than {CPU_SECONDS:g} s of processor time"
                elif time.monotonic() - began > WALL_SECONDS and running:
                    verdict = f"hangs: more than {WALL_SECONDS:g} s"
                if verdict or time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    break
            elif "failed" in message:
                print(message["failed"], file=sys.stderr)
            elif "begin" in message:
                index, label, cpu = message["begin"], message["label"], message["cpu"]
                began, running = time.monotonic(), True
            else:
                running = False
                _count(report, message, index, label)
                if index % 500 == 0:
                    print(f"{subject.name} {index}: {len(report.findings)} kinds of findings", flush=True)
    status = os.waitpid(child, 0)[1]
    if not verdict and time.monotonic() > deadline:
        return indices.stop
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 and not running:
        return index + 1
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
        raise RuntimeError(f"the fuzzer itself failed at {subject.name} {index} ({label})")
    name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    what = verdict or f"the process dies: {name}"
    report.outcomes["finding"] += 1
    report.add_finding(what, index, label)
    return index + 1


def _messages(lines: Any) -> Iterator[dict[str, Any] | None]:
    """The worker's messages; None after those that are there. The parent sleeps meanwhile: waking costs more."""
    descriptor, rest = lines.fileno(), b""
    while True:
        time.sleep(0.05)
        while select.select([descriptor], [], [], 0)[0]:
            part = os.read(descriptor, 65536)
            if not part:
                return
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield json.loads(line)
        yield None


def _count(report: Report, message: dict[str, Any], index: int, label: str) -> None:
    outcome, finding = message["outcome"], message["finding"]
    report.cpu_seconds += message["seconds"]
    report.slowest = max(report.slowest, (message["seconds"], f"{index} {label}"))
    report.largest = max(report.largest, (message["mib"], f"{index} {label}"))
    report.outcomes["finding" if finding else outcome] += 1
    report.labels[label.split(":")[0]] += 1
    if finding:
        report.add_finding(finding, index, label)


def _work(subject: Subject, seed: int, indices: range, folder: Path, writing: int) -> None:
    """The worker: does cases and tells of each when it begins and what came of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print warnings of their own
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _ADDRESS_SPACE, taken + _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    canary = folder / "canary"
    os.chdir(folder)
    for index in indices:
        case = case_of(subject, seed, index, canary)
        path = folder / f"case{case.suffix}"
        path.write_bytes(case.data)
        Path("/proc/self/clear_refs").write_text("5")
        before, started = _peak_bytes(), time.process_time()
        _tell(writing, {"begin": index, "label": case.label, "cpu": started})
        outcome, finding = _judge(subject, path)
        seconds, grown = time.process_time() - started, _peak_bytes() - before
        if seconds > CPU_SECONDS:
            finding = finding or f"hangs: more than {CPU_SECONDS:g} s of processor time"
        if grown > MEMORY_BYTES:
            finding = finding or f"takes more than {MEMORY_BYTES / 2**20:.0f} MiB"
        if canary.exists():
            finding = "runs code that the file carries"
            canary.unlink()
        path.unlink(missing_ok=True)
        for left in folder.iterdir():
            finding = finding or "leaves files behind"
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        _tell(writing, {"outcome": outcome, "finding": finding, "seconds": seconds, "mib": grown / 2**20})
        if grown > MEMORY_BYTES // 8:
            gc.collect()


def _judge(subject: Subject, path: Path) -> tuple[str, str]:
    """What came of a case, and what is wrong with that, if anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", _bomb_warning())
            return subject.read(path), ""
    except subject.refusals as error:
        message = str(error)
        if path.name not in message:
            return "", f"{type(error).__name__} does not name the file: {message[:80]}"
        if len(message) > _LONGEST_MESSAGE:
            return "", f"{type(error).__name__} of more than {_LONGEST_MESSAGE} characters"
        return f"refused ({type(error).__name__})", ""
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/mvmsr/" in frame.filename] or frames
        place = f"{Path(own[-1].filename).name}:{own[-1].name}"
        last = f"{Path(frames[-1].filename).name}:{frames[-1].name}"
        return "", f"{type(error).__name__} in {place} (from {last})"


def _bomb_warning() -> type[Warning]:
    from PIL import Image

    return Image.DecompressionBombWarning


def _tell(descriptor: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
