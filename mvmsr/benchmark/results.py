"""A benchmark's outcome as one document: protocol, versions, machine, means, every picture, what is missing."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from mvmsr.atomic import write_whole
from mvmsr.benchmark.evaluate import ImageScore
from mvmsr.benchmark.statistics import add_statistics
from mvmsr.metrics.build import MissingMetric
from mvmsr.metrics.metric import Metric
from mvmsr.metrics.protocol import Protocol
from mvmsr.revision import revision

Results = dict[str, Any]
_TEXTS = {"method", "set", "image", "key", "name", "source", "a", "b", "better", "metric", "why", "lq"}
"""What holds names, even of a method or a picture that is called inf."""
PACKAGES = (
    *("mvmsr", "torch", "torchvision", "numpy", "opencv-python", "pillow", "scipy", "lpips", "basicsr", "spandrel"),
    *("pyiqa", "onnxruntime", "onnxruntime-gpu"),
)
_REQUIRED = ("protocol", "means", "images", "missing", "failures", "metrics")


class ResultsError(ValueError):
    """A results file that cannot be read, or results that cannot be put together."""


def make_results(
    scores: Iterable[ImageScore],
    protocol: Protocol,
    metrics: Mapping[str, Metric],
    *,
    missing: Iterable[MissingMetric] = (),
    failures: Iterable[Mapping[str, str | None]] = (),
    methods: Iterable[Mapping[str, Any]] = (),
    device: str | None = None,
    lq: str = "make",
    precision: str | None = None,
) -> Results:
    """The document.

    `means` are plain averages over the pictures that have a score; null where none has. A metric in `missing` is null
    everywhere; entries there with a picture say why this one has no score.

    Args:
        failures: methods or sets as a whole that could not be used; failed pictures are added from `scores`.
        methods: names, sources, checksums and costs.
        lq: `make` or `file`, for low-quality pictures that were made or read, or the folder that they were read from.
        precision: what the methods computed in, as `bf16-mixed`; never `auto`, which means another one elsewhere.
    """
    scores = list(scores)
    missing = list(missing)
    columns = [*metrics, *(entry.metric for entry in missing)]
    return {
        "protocol": {**protocol.as_dict(), "lq": lq},
        "metrics": {
            key: {"higher_is_better": metric.higher_is_better, "decimals": metric.decimals}
            for key, metric in metrics.items()
        },
        "versions": versions_and_commit(),
        "machine": machine(device),
        **({"precision": precision} if precision is not None else {}),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "methods": [dict(method) for method in methods],
        "means": means(scores, columns),
        "images": [
            {
                "method": score.method,
                "set": score.set,
                "image": score.image,
                **{key: score.scores.get(key) for key in columns},
                "seconds": score.seconds,
            }
            for score in scores
            if score.error is None
        ],
        "missing": [{"metric": entry.metric, "why": entry.why} for entry in missing]
        + [
            {"metric": key, "why": why, "method": score.method, "set": score.set, "image": score.image}
            for score in scores
            for key, why in score.notes.items()
        ],
        "failures": [dict(failure) for failure in failures]
        + [
            {"method": score.method, "set": score.set, "image": score.image, "why": score.error}
            for score in scores
            if score.error is not None
        ],
    }


def means(scores: Sequence[ImageScore], columns: Sequence[str]) -> list[dict[str, Any]]:
    """One row a method and set, in the order of first appearance."""
    groups: dict[tuple[str, str], list[ImageScore]] = {}
    for score in scores:
        groups.setdefault((score.method, score.set), []).append(score)
    rows = []
    for (method, set_name), group in groups.items():
        done = [score for score in group if score.error is None]
        row: dict[str, Any] = {"method": method, "set": set_name}
        for key in columns:
            row[key] = _mean([score.scores.get(key) for score in done])
        row["seconds"] = _mean([score.seconds for score in done])
        row["images"] = len(done)
        row["failed"] = len(group) - len(done)
        rows.append(row)
    return rows


def merge_results(parts: Sequence[Results]) -> Results:
    """Results of several runs as one; a later run replaces an earlier one's rows of the same method and set.

    Raises:
        ResultsError: they were measured under different protocols, so that a common table would mislead.
    """
    if not parts:
        raise ResultsError("nothing to merge")
    first = parts[0]["protocol"]
    for part in parts[1:]:
        if differing := sorted(k for k in {**first, **part["protocol"]} if first.get(k) != part["protocol"].get(k)):
            pairs = ", ".join(f"{k}: {first.get(k)!r} and {part['protocol'].get(k)!r}" for k in differing)
            raise ResultsError(f"these results follow different protocols and cannot be compared ({pairs})")
    merged = dict(parts[-1])
    if precisions := list(dict.fromkeys(part["precision"] for part in parts if "precision" in part)):
        merged["precision"] = " and ".join(dict.fromkeys(" and ".join(precisions).split(" and ")))
    newest = {(row["method"], row["set"]): number for number, part in enumerate(parts) for row in part["means"]}
    for key in ("means", "images"):
        merged[key] = [
            row
            for number, part in enumerate(parts)
            for row in part[key]
            if newest.get((row["method"], row["set"])) == number
        ]
    merged["metrics"] = {key: value for part in parts for key, value in part["metrics"].items()}
    by_name = {method["name"]: method for part in parts for method in part.get("methods", [])}
    merged["methods"] = list(by_name.values())
    for key in ("missing", "failures"):
        entries = [
            entry
            for number, part in enumerate(parts)
            for entry in part[key]
            if _stands(entry, part["means"], number, newest)
        ]
        merged[key] = [entry for number, entry in enumerate(entries) if entry not in entries[:number]]
    return add_statistics(merged) if any("statistics" in part for part in parts) else merged


def write_results(path: str | Path, results: Results) -> None:
    """Write JSON, complete or not at all; infinite values become the string "inf", which `float` understands."""
    write_text(path, json.dumps(encode(results), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_results(path: str | Path) -> Results:
    """Results as they were before `write_results`.

    Raises:
        ResultsError: not such a file.
    """
    try:
        results = decode(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        remedy = "name a results.json, or the folder that `mvmsr test --out` wrote"
        raise ResultsError(f"{path} cannot be read as results ({cause}); {remedy}") from error
    if not isinstance(results, dict) or (lacking := [key for key in _REQUIRED if key not in results]):
        what = "is no JSON object" if not isinstance(results, dict) else f"has no {lacking[0]!r}"
        raise ResultsError(f"{path} {what}; expected a results.json written by `mvmsr test`")
    for key in _REQUIRED:
        if key in ("protocol", "metrics"):
            fits = isinstance(results[key], dict)
        else:
            fits = isinstance(results[key], list) and all(isinstance(entry, dict) for entry in results[key])
        if not fits:
            raise ResultsError(f"{path}: {key!r} has another form than in a results.json written by `mvmsr test`")
    return results


def to_csv(results: Results) -> str:
    """One line a picture; empty where there is no score."""
    rows = results["images"]
    buffer = io.StringIO()
    header = list(dict.fromkeys(key for row in rows for key in row)) or ["method", "set", "image"]
    writer = csv.DictWriter(buffer, ["protocol", *header], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({"protocol": results["protocol"]["name"], **row})
    return buffer.getvalue()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file aside and rename it into place, creating its folder; see `to_bytes`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_bytes(text))


def to_bytes(text: str) -> bytes:
    r"""UTF-8, in which bytes of file names that are none appear as `\udce9`, which JSON reads as what they were."""
    return text.encode("utf-8", "backslashreplace")


def versions() -> dict[str, str]:
    """Versions of everything that takes part in a score."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def versions_and_commit() -> dict[str, str]:
    """The versions and, where the package runs from a git checkout, its commit as `mvmsr_commit`."""
    commit = revision()
    return versions() | ({"mvmsr_commit": commit} if commit else {})


def machine(device: str | None = None) -> dict[str, Any]:
    """What the scores were computed on."""
    import torch

    from mvmsr.hardware import processor_name

    described: dict[str, Any] = {
        "system": platform.platform(),
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device or "cpu",
    }
    if torch.cuda.is_available() and (device or "").startswith("cuda"):
        described["gpu"] = torch.cuda.get_device_name(torch.device(device or "cuda"))
    return described


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _stands(
    entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], number: int, newest: Mapping[tuple[str, str], int]
) -> bool:
    """Whether no later run measured what the entry of run `number`, with these means, speaks of.

    That is a method, a set or both; of a metric as a whole, every row that lacks it.
    """
    method, set_name = entry.get("method"), entry.get("set")
    if not method and not set_name:
        lacking = [(row["method"], row["set"]) for row in rows if row.get(str(entry.get("metric")), 0) is None]
        return not lacking or any(newest[row] == number for row in lacking)
    return not any(
        later > number and method in (None, row[0]) and set_name in (None, row[1]) for row, later in newest.items()
    )


def encode(value: Any) -> Any:
    """A value that strict JSON can hold: infinities as strings."""
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def decode(value: Any) -> Any:
    """What `encode` was given."""
    if isinstance(value, dict):
        return {key: item if key in _TEXTS else decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return float(value) if value in ("inf", "-inf") else value
