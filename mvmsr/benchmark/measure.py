"""One method after the other through all sets: what was measured before is taken over, what comes is kept."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvmsr.benchmark import fingerprint
from mvmsr.benchmark.cost import MemoryMeter, Size, cost_of, size_of, warm_up
from mvmsr.benchmark.evaluate import ImageScore, evaluate
from mvmsr.benchmark.image_sets import ImageSet
from mvmsr.benchmark.journal import JOURNAL, Journal
from mvmsr.benchmark.methods import Bicubic, Method, Restore, SavedPictures
from mvmsr.benchmark.plan import Plan
from mvmsr.benchmark.results import versions
from mvmsr.counting import counted
from mvmsr.data.image_io import write_rgb
from mvmsr.data.layouts import ImagePair
from mvmsr.metrics.metric import Metric
from mvmsr.metrics.protocol import Protocol, ProtocolError

Progress = Callable[[int, int, str], None]
"""Called with pictures done, pictures in all, and what is being done."""
MOST_WORKERS = 8


def picture_path(out: str | Path, method: str, set_name: str, image: str) -> Path:
    """`out`/images/METHOD/SET/IMAGE.png, with names as file systems take them."""
    return Path(out) / "images" / folder_name(method) / folder_name(set_name) / picture_name(image)


def folder_name(name: str) -> str:
    """A method or set as it is written in the names of folders; `run_benchmark` refuses two of one folder."""
    return re.sub(r"^\.+$|[^\w.+-]", "_", name)


def picture_name(image: str) -> str:
    """The PNG file of a picture, another one for every name: what file systems may not take goes, a checksum comes.

    >>> picture_name("img 001")
    'img 001.png'
    >>> picture_name("2024:05")
    '2024_05-fc31bad9.png'
    """
    kept = re.sub(r"[^\w.+ -]", "_", image)
    if kept == image:
        return f"{image}.png"
    checksum = hashlib.sha256(image.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept[:50]}-{checksum}.png"  # as many letters as fit into 255 bytes in any script


class Count:
    """Pictures done and to do, shown to whoever wants to see them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done, self.label = progress, total, 0, ""

    def show(self, label: str) -> None:
        """Name what is being done."""
        self.label = label
        if self.progress is not None:
            self.progress(self.done, self.total, label)

    def advance(self, pictures: int = 1) -> None:
        """That many more are done."""
        self.done += pictures
        self.show(self.label)

    def leave_out(self, pictures: int) -> None:
        """That many will never be done."""
        self.total -= pictures
        self.show(self.label)


def pick_workers(asked: int) -> int:
    """Threads that read and score: those asked for; for 0 as many as torch computes with, at most eight."""
    return asked or min(torch.get_num_threads(), MOST_WORKERS)


@dataclass
class Bench:
    """What all methods of a run share: conditions, sets, and the journal of what is measured."""

    plan: Plan
    protocol: Protocol
    metrics: dict[str, Metric]
    device: torch.device
    sets: list[ImageSet]
    counter: Count
    changed: Counter[tuple[str, ...]] = field(default_factory=Counter)
    before: dict[tuple[str, str, str], fingerprint.Fingerprint] = field(default_factory=dict)
    """Of every method, set and picture, as they were before anything was read."""

    def __post_init__(self) -> None:
        plan = self.plan
        self.journal = Journal(Path(plan.out) / JOURNAL, plan.restart) if plan.out else None
        self.versions = versions()
        self.shared = fingerprint.of_surroundings(
            self.protocol, plan.lq, self.metrics, self.versions, self.device, plan.precision
        )

    def remember(self, method: Method) -> dict[tuple[str, str], ImageScore]:
        """Scores of a method from before that still hold, by set and picture."""
        known: dict[tuple[str, str], ImageScore] = {}
        if self.journal is None:
            return known
        for image_set in self.sets:
            for pair in image_set.pairs:
                of = self._of(method, image_set, pair)
                self.before[method.name, image_set.name, pair.name] = of
                score = self.journal.score(method.name, image_set.name, pair.name, of)
                if score is not None and self._has_picture(score, of):
                    known[image_set.name, pair.name] = score
                elif changed := self.journal.changed(method.name, image_set.name, pair.name, of):
                    self.changed[changed] += 1
        self.counter.advance(len(known))
        return known

    def report(self, say: Callable[[str], None]) -> None:
        """Say what is taken over and what is not."""
        counter, changed = self.counter, self.changed
        if self.journal is None or not (counter.done or changed):
            return
        end = "; all are done, --restart measures them again" if counter.done == counter.total else ""
        known = f"{counter.done} of {counted(counter.total, 'image')} {'was' if counter.done == 1 else 'were'}"
        say(f"{known} measured before ({self.journal.path}){end}")
        for keys, count in changed.items():
            what = ", ".join("image" if key == "picture" else key for key in keys)  # journals keep the older word
            say(f"{count} {'is' if count == 1 else 'are'} measured again, since this has changed: {what}")

    def measure(
        self, method: Method, known: dict[tuple[str, str], ImageScore], failures: list[dict[str, str | None]]
    ) -> tuple[list[ImageScore], dict[str, Any]]:
        """All scores of a method, and its cost."""
        of_method = {**self.shared, **fingerprint.of_method(method, self.versions)}
        size = self.journal.size(method.name, of_method) if self.journal is not None else None
        scores: list[ImageScore] = []
        restore: Restore | None = None
        if size is None or len(known) < sum(map(len, self.sets)):
            self.counter.show(f"opening {method.name}")
            try:
                restore = method.open()
            except (ValueError, OSError, RuntimeError, ImportError) as error:
                failures.append({"method": method.name, "set": None, "image": None, "why": str(error)})
                self.counter.leave_out(sum(map(len, self.sets)) - len(known))
                return scores, cost_of(Size(), [])
            size = size_of(restore, self.plan.scale)
            if self.journal is not None:
                self.journal.add_size(method.name, size, of_method)
        meter = None
        if restore is not None and not isinstance(restore, (Bicubic, SavedPictures)):
            meter = MemoryMeter(getattr(restore, "device", torch.device("cpu")), _largest_measured(known, self.plan))
            warm_up(restore)
        for image_set in self.sets:
            before = {
                pair.name: known[key] for pair in image_set.pairs if (key := (image_set.name, pair.name)) in known
            }
            if restore is None or len(before) == len(image_set):
                scores += [before[pair.name] for pair in image_set.pairs]
                continue
            self.counter.show(f"{method.name} on {image_set.name}")
            try:
                scores += self._evaluate(method, restore, image_set, before, meter)
            except ProtocolError as error:
                failures.append({"method": method.name, "set": image_set.name, "image": None, "why": str(error)})
                self.counter.leave_out(len(image_set))
        return scores, cost_of(size, [(s.seconds, s.pixels, s.peak_mib) for s in scores if s.error is None])

    def _evaluate(
        self,
        method: Method,
        restore: Restore,
        image_set: ImageSet,
        known: dict[str, ImageScore],
        meter: MemoryMeter | None,
    ) -> list[ImageScore]:
        pairs = {pair.name: pair for pair in image_set.pairs}

        def on_image(score: ImageScore, sr: np.ndarray | None) -> None:
            written = None
            if self.plan.save_images and self.plan.out and sr is not None:
                path = picture_path(self.plan.out, score.method, score.set, score.image)
                write_rgb(path, sr)
                written = fingerprint.of_file(path)
            of = self.before.get((score.method, score.set, score.image))
            # Files that changed since may have been read before or after: such a score is measured again.
            if self.journal is not None and of == self._of(method, image_set, pairs[score.image]):
                self.journal.add_score(score, of, written)
            self.counter.advance()

        return evaluate(
            restore,
            image_set,
            self.metrics,
            self.protocol,
            on_image,
            method.name,
            known=known,
            workers=pick_workers(self.plan.workers),
            meter=meter,
        )

    def _of(self, method: Method, image_set: ImageSet, pair: ImagePair) -> fingerprint.Fingerprint:
        saved = SavedPictures(method.source) if method.source is not None and method.source.is_dir() else None
        of_picture = fingerprint.of_picture(pair, image_set.name, saved)
        return {**self.shared, **fingerprint.of_method(method, self.versions), **of_picture}

    def _has_picture(self, score: ImageScore, of: fingerprint.Fingerprint) -> bool:
        """Whether the picture that was scored is there, where one is asked for."""
        if not self.plan.save_images or not self.plan.out or self.protocol.luma_first or self.journal is None:
            return True
        key = (score.method, score.set, score.image)
        found = fingerprint.of_file(picture_path(self.plan.out, *key))
        return found is not None and found == self.journal.picture(*key, of)


def _largest_measured(known: dict[tuple[str, str], ImageScore], plan: Plan) -> int:
    """Input pixels of the largest picture whose memory is known."""
    pixels = [score.pixels for score in known.values() if score.peak_mib is not None and score.pixels is not None]
    return max(pixels, default=0) // plan.scale**2
