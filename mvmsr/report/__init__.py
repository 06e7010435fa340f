"""Runs and benchmarks as one HTML page that needs nothing besides itself."""

from mvmsr.report.benchmark_page import is_benchmark, write_benchmark_report
from mvmsr.report.run_files import ReportError, RunFiles, read_run
from mvmsr.report.run_page import build_report, write_report

__all__ = [
    "ReportError",
    "RunFiles",
    "build_report",
    "is_benchmark",
    "read_run",
    "write_benchmark_report",
    "write_report",
]
