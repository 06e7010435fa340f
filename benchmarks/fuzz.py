"""Hostile and broken input: options files, pictures and weights files that must be used or refused, and nothing else.

    nice python benchmarks/fuzz.py [--options 100000] [--pictures 20000] [--weights 10000] [--seed 1] [--json FILE]
    python benchmarks/fuzz.py --again options 4711        one case, with its traceback

Every case is made from valid files by a random generator of its own, so that it comes again from the seed and its
number alone. It is read by the functions that the commands call: options as by `mvmsr train -opt FILE --dry-run` up to
the building of networks, pictures as by `mvmsr upscale` and the training data, weights as by `--model FILE`. A case is
used, or refused by the package's own error that names the file. All else is a finding: another exception, a process
that dies, more than 2 s of processor time, more than 1 GiB of memory, code that runs, a message of more than 16
thousand characters. The files of findings are kept.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import fuzz_workers
from fuzz_options import OptionsFiles
from fuzz_pictures import Pictures
from fuzz_weights import WeightsFiles
from fuzz_workers import Report, Subject

from mvmsr.hardware import processor_name

SUBJECTS: dict[str, type[Any]] = {kind.name: kind for kind in (OptionsFiles, Pictures, WeightsFiles)}
PACKAGES = ("pillow", "opencv-python", "numpy", "torch", "safetensors", "spandrel", "pydantic", "pyyaml")


def main() -> None:
    """Runs what was asked for, prints and stores the results; status 1 where there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("options", 100_000), ("pictures", 20_000), ("weights", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"cases; {count:,} without it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--minutes", type=float, default=math.inf, help="for each subject; what is left then is left")
    parser.add_argument("--keep", type=Path, default=Path("results/fuzz"), help="folder of the findings' files")
    parser.add_argument("--json", type=Path, help="where to store the results")
    parser.add_argument("--again", nargs=2, metavar=("SUBJECT", "NUMBER"), help="one case, in this process")
    args = parser.parse_args()
    if args.again:
        again(SUBJECTS[args.again[0]](), args.seed, int(args.again[1]))
        return
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "seed": args.seed,
        **_machine(),
        "subjects": {},
    }
    if args.json and args.json.exists():  # of other subjects, run before
        results["subjects"] = json.loads(args.json.read_text(encoding="utf-8"))["subjects"]
    for name, kind in SUBJECTS.items():
        if not (count := getattr(args, name)):
            continue
        indices = range(args.first, args.first + count)
        report = fuzz_workers.run(kind(), args.seed, indices, args.keep.resolve(), args.minutes * 60)
        results["subjects"][name] = summary(report)
        print(f"{name}: {json.dumps(results['subjects'][name], indent=2, ensure_ascii=True)}")
        if args.json:
            args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(subject["findings"] for subject in results["subjects"].values()))


def summary(report: Report) -> dict[str, Any]:
    """A report as it is stored."""
    count = max(report.outcomes.total(), 1)
    return {
        "cases": count,
        "outcomes": dict(report.outcomes.most_common()),
        "mutations": dict(report.labels.most_common()),
        "cases_per_second": round(count / report.wall_seconds, 1),
        "read_seconds_mean": round(report.cpu_seconds / count, 5),
        "read_seconds_max": [round(report.slowest[0], 3), report.slowest[1]],
        "memory_mib_max": [round(report.largest[0], 1), report.largest[1]],
        "findings": report.findings,
    }


def again(subject: Subject, seed: int, index: int) -> None:
    """Reads one case here, so that it can be looked into."""
    with tempfile.TemporaryDirectory() as folder:
        case = fuzz_workers.case_of(subject, seed, index, Path(folder) / "canary")
        path = Path(folder) / f"case{case.suffix}"
        path.write_bytes(case.data)
        print(f"{case.label}, {len(case.data):,} bytes, begins {case.data[:60]!r}")
        print(subject.read(path))


def _machine() -> dict[str, Any]:
    return {
        "machine": {
            "cpu": processor_name(),
            "cores_used": 1,
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in PACKAGES},
        "limits": {
            "cpu_seconds": fuzz_workers.CPU_SECONDS,
            "wall_seconds": fuzz_workers.WALL_SECONDS,
            "memory_mib": fuzz_workers.MEMORY_BYTES // 2**20,
        },
    }


if __name__ == "__main__":
    main()
