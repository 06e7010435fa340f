"""Runs and benchmarks as one HTML page that needs nothing besides itself."""

from mvmsr.report.run_files import ReportError, RunFiles, read_run
from mvmsr.report.run_page import build_report, write_report

__all__ = ["ReportError", "RunFiles", "build_report", "read_run", "write_report"]
