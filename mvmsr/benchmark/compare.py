"""Several results files as one, in which methods of the same name stay apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvmsr.benchmark.results import Results, ResultsError, merge_results, read_results
from mvmsr.benchmark.statistics import add_statistics
from mvmsr.benchmark.table import precision_name


def compare_files(paths: Sequence[str | Path]) -> Results:
    """Results files merged, with the statistics of every pair of methods.

    A method that several files hold becomes one row a file, `name (label)`, unless they agree in its weights and in
    all its scores on the sets that they share.

    `note` of the result, where there is one, tells of files that were computed in different precisions.

    Raises:
        ResultsError: a file cannot be read, the files follow different protocols, or fewer than two methods share a
            set.
    """
    if twice := [str(path) for path in paths if [Path(p).resolve() for p in paths].count(Path(path).resolve()) > 1]:
        raise ResultsError(f"{twice[0]} is named twice")
    parts = [read_results(path) for path in paths]
    _refuse_different_protocols(parts, [str(path) for path in paths])
    merged = add_statistics(merge_results(tell_apart(parts, file_labels(paths))))
    if note := _precision_note(parts, [str(path) for path in paths]):
        merged["note"] = note
    if not merged["statistics"]:
        methods = ", ".join(sorted({f"{row['method']} on {row['set']}" for row in merged["means"]})) or "nothing"
        raise ResultsError(f"no two methods were measured on the same set, so nothing can be compared; found {methods}")
    return merged


def file_labels(paths: Sequence[str | Path]) -> list[str]:
    """The shortest tails of the paths that tell them apart, without `.json` and a common `results`.

    >>> file_labels(["new/results.json", "old/results.json"])
    ['new', 'old']
    >>> file_labels(["a.json", "b.json"])
    ['a', 'b']
    """
    whole = [Path(path).resolve().with_suffix("").parts for path in paths]
    if len(whole) > 1 and len({parts[-1] for parts in whole}) == 1:
        whole = [parts[:-1] for parts in whole]
    for length in range(1, max(len(parts) for parts in whole) + 1):
        labels = ["/".join(parts[-length:]) for parts in whole]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def tell_apart(parts: Sequence[Results], labels: Sequence[str]) -> list[Results]:
    """The same results with labels behind the names of methods that are not the same in all of them."""
    holders: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        for name in dict.fromkeys(row["method"] for row in part["means"]):
            holders.setdefault(name, []).append(number)
    names = [
        {
            name: f"{name} ({label})"
            for name, numbers in holders.items()
            if number in numbers and not _all_the_same(name, [parts[n] for n in numbers])
        }
        for number, label in enumerate(labels)
    ]
    return [_renamed(part, new) for part, new in zip(parts, names, strict=True)]


def _all_the_same(name: str, parts: Sequence[Results]) -> bool:
    """Whether a name means one thing: equal checksums, and equal pictures and scores of every set in two files."""
    if len({_checksum(name, part) for part in parts}) > 1:
        return False
    known: dict[str, dict[str, dict[str, float | None]]] = {}
    for part in parts:
        found: dict[str, dict[str, dict[str, float | None]]] = {}
        for row in part["images"]:
            if row["method"] == name:
                scores = {metric: row.get(metric) for metric in part["metrics"]}
                found.setdefault(row["set"], {})[row["image"]] = scores
        if any(known.setdefault(set_name, images) != images for set_name, images in found.items()):
            return False
    return True


def _checksum(name: str, part: Results) -> str | None:
    return next((method.get("sha256") for method in part.get("methods", []) if method["name"] == name), None)


def _renamed(part: Results, names: Mapping[str, str]) -> Results:
    def row(entry: Mapping[str, Any], key: str = "method") -> dict[str, Any]:
        return {**entry, key: names.get(entry[key], entry[key])} if entry.get(key) else dict(entry)

    result = {
        **part,
        **{key: [row(entry) for entry in part[key]] for key in ("means", "images", "missing", "failures")},
    }
    result["methods"] = [row(method, "name") for method in part.get("methods", [])]
    return result


def _precision_note(parts: Sequence[Results], names: Sequence[str]) -> str:
    """Who computed in what, where results differ in it; empty where they do not, or do not say."""
    known = {name: part["precision"] for part, name in zip(parts, names, strict=True) if "precision" in part}
    if len(set(known.values())) < 2:
        return ""
    told = ", ".join(f"{name} in {precision_name(precision)}" for name, precision in known.items())
    return f"Methods were computed in different precisions, which moves NIQE by 0.01 to 0.02: {told}"


def _refuse_different_protocols(parts: Sequence[Results], names: Sequence[str]) -> None:
    first = parts[0]["protocol"]
    for part, name in zip(parts[1:], names[1:], strict=True):
        other = part["protocol"]
        differing = [key for key in {**first, **other} if first.get(key) != other.get(key)]
        if differing:
            fields = "; ".join(f"{key} is {first.get(key)!r} and {other.get(key)!r}" for key in differing)
            raise ResultsError(
                f"{names[0]} and {name} follow different protocols, so their figures are different quantities: "
                f"{fields}. Measure one of them again with the other's --protocol"
            )
