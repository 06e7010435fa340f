"""Benchmark models: `python test_sr.py -opt options/test/benchmark_x4.yml` (the same as `mvmsr test`)."""

import sys

from mvmsr.cli import app

if __name__ == "__main__":
    app(["test", *sys.argv[1:]], prog_name="test_sr.py")
