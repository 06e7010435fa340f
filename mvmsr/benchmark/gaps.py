"""What of a benchmark has no score, in sentences."""

from __future__ import annotations

from mvmsr.benchmark.results import Results


def not_computed(results: Results) -> list[str]:
    """The metrics that have no score at all, and why."""
    return [
        f"{entry['metric']} was not computed: {entry['why']}" for entry in results["missing"] if "image" not in entry
    ]


def failed(results: Results) -> list[str]:
    """The methods, sets and images that failed, and why."""
    sentences = []
    for failure in results["failures"]:
        where = ", ".join(str(failure[key]) for key in ("method", "set", "image") if failure.get(key))
        sentences.append(f"failed: {where}: {failure['why']}")
    return sentences
