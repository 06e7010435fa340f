"""Methods on picture sets under metrics: one document of results, and its tables."""

from mvmsr.benchmark.evaluate import ImageScore, evaluate
from mvmsr.benchmark.image_sets import ImageSet, load_image_set
from mvmsr.benchmark.methods import Method, MethodError, parse_method
from mvmsr.benchmark.plan import Plan, PlanError, load_plan, make_plan
from mvmsr.benchmark.results import ResultsError, make_results, merge_results, read_results, write_results
from mvmsr.benchmark.run import is_complete, run_benchmark
from mvmsr.benchmark.table import rich_tables, to_markdown

__all__ = [
    "ImageScore",
    "ImageSet",
    "Method",
    "MethodError",
    "Plan",
    "PlanError",
    "ResultsError",
    "evaluate",
    "is_complete",
    "load_image_set",
    "load_plan",
    "make_plan",
    "make_results",
    "merge_results",
    "parse_method",
    "read_results",
    "rich_tables",
    "run_benchmark",
    "to_markdown",
    "write_results",
]
