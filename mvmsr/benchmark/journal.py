"""Scores on disk as they come, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvmsr.benchmark.cost import Size
from mvmsr.benchmark.evaluate import ImageScore
from mvmsr.benchmark.fingerprint import Fingerprint
from mvmsr.benchmark.results import decode, encode, to_bytes

JOURNAL = "partial.jsonl"
_Key = tuple[str, ...]


class Journal:
    """One JSON line a picture, and one a network, each with the fingerprint of what it depends on.

    Lines are only ever appended, each in one write that reaches the disk before work goes on. A line that a crash cut
    short is dropped when the file is opened. Pictures that failed are not kept: they are tried again.

    Args:
        path: the file; it is made with its folder by the first line.
        restart: forget what the file holds.
    """

    def __init__(self, path: str | Path, restart: bool = False) -> None:
        self.path = Path(path)
        self._entries: dict[_Key, list[dict[str, Any]]] = {}
        if restart:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            self._read()

    def score(self, method: str, set_name: str, image: str, of: Fingerprint) -> ImageScore | None:
        """The scores of a picture that were measured under this fingerprint."""
        entry = self._newest((method, set_name, image), of)
        return None if entry is None else ImageScore(method=method, set=set_name, image=image, **entry["score"])

    def picture(self, method: str, set_name: str, image: str, of: Fingerprint) -> str | None:
        """The checksum of the restored picture that was written then; None if none was."""
        entry = self._newest((method, set_name, image), of)
        return None if entry is None else entry.get("picture")

    def size(self, method: str, of: Fingerprint) -> Size | None:
        """What is known of a network, see `Size`."""
        entry = self._newest((method,), of)
        return None if entry is None else Size(**entry["size"])

    def changed(self, method: str, set_name: str, image: str, of: Fingerprint) -> tuple[str, ...]:
        """What differs since a picture was measured last: names in the fingerprint, none if it never was."""
        entries = self._entries.get((method, set_name, image), [])
        return tuple(key for key in of if entries and entries[-1]["of"].get(key) != of[key])

    def add_score(self, score: ImageScore, of: Fingerprint, picture: str | None = None) -> None:
        """Keep a picture's scores, and the checksum of the restored one; a picture that failed is left out."""
        if score.error is None:
            kept = {name: value for name, value in vars(score).items() if name not in ("method", "set", "image")}
            kept.pop("error")
            self._append((score.method, score.set, score.image), {"of": of, "picture": picture, "score": kept})

    def add_size(self, method: str, size: Size, of: Fingerprint) -> None:
        """Keep what is known of a network."""
        self._append((method,), {"of": of, "size": size.as_dict()})

    def _newest(self, key: _Key, of: Fingerprint) -> dict[str, Any] | None:
        return next((entry for entry in reversed(self._entries.get(key, [])) if entry["of"] == of), None)

    def _append(self, key: _Key, entry: Mapping[str, Any]) -> None:
        line = json.dumps(encode({"key": list(key), **entry}), ensure_ascii=False, allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(to_bytes(line))
            os.fsync(file.fileno())

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)
        for line in content[:whole].splitlines():
            try:
                entry = decode(json.loads(line))
                key, of, kept = tuple(entry["key"]), entry["of"], entry["size" if len(entry["key"]) == 1 else "score"]
                Size(**kept) if len(key) == 1 else ImageScore(*key, **kept)
            except (ValueError, KeyError, TypeError):  # a damaged disk, or a line of another version
                continue
            self._entries.setdefault(key, []).append({**entry, "of": of})
