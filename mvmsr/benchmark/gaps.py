"""What of a benchmark has no score, in sentences."""

from __future__ import annotations

from collections.abc import Callable

from mvmsr.benchmark.markdown import plain
from mvmsr.benchmark.results import Results


def every_gap(results: Results, name: Callable[[str], str] = str) -> list[str]:
    """Whole metrics, metrics of single images, and what failed, each with its reason."""
    return [*not_computed(results, name), *left_out(results, name), *failed(results)]


def gaps_markdown(results: Results) -> str:
    """`every_gap` as a list for documents; empty where every score is there."""
    return "".join(f"- {plain(' '.join(text.split()))}\n" for text in every_gap(results))


def not_computed(results: Results, name: Callable[[str], str] = str) -> list[str]:
    """The metrics, called by `name`, that have no score at all, or none of some methods of merged results, and why."""
    missing = [entry for entry in results["missing"] if "image" not in entry]
    return [
        f"{name(entry['metric'])} was not computed{_of_whom(results, entry['metric'])}: {entry['why']}"
        for entry in missing
    ]


def _of_whom(results: Results, metric: str) -> str:
    """The methods that lack a metric which others have, as ` for one, two`; empty where none has it."""
    rows = [row for row in results.get("means", ()) if metric in row]
    without = dict.fromkeys(row["method"] for row in rows if row[metric] is None)
    return f" for {', '.join(without)}" if without and any(row[metric] is not None for row in rows) else ""


def left_out(results: Results, name: Callable[[str], str] = str) -> list[str]:
    """The metrics that have no score on single images, called by `name`, and why."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for entry in results["missing"]:
        if "image" in entry:
            cause = entry["why"].partition("; ")[0]  # what follows is the size of this image
            groups.setdefault((entry["metric"], entry["set"], cause), {})[entry["image"]] = None
    return [
        f"{name(metric)} leaves out {len(images)} of {set_name} "
        f"({', '.join([*images][:5])}{', ...' if len(images) > 5 else ''}): {cause}"
        for (metric, set_name, cause), images in groups.items()
    ]


def failed(results: Results) -> list[str]:
    """The methods, sets and images that failed, and why."""
    sentences = []
    for failure in results["failures"]:
        where = ", ".join(str(failure[key]) for key in ("method", "set", "image") if failure.get(key))
        sentences.append(f"failed: {where}: {failure['why']}")
    return sentences
