"""A run directory: whether its options load, its log is whole, and its checkpoints and weights can be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from mvmsr.cli.doctor_findings import Finding, State
from mvmsr.counting import counted


def check_run(root: Path) -> Iterator[Finding]:
    """Everything about one run; a path that is no run is one broken finding."""
    from mvmsr.report.run_files import ReportError, read_run

    try:
        run = read_run(root)
    except ReportError as error:
        yield Finding("Run", "directory", State.broken, str(error))
        return
    yield Finding("Run", "directory", State.ok, str(root), values={"path": str(root), "name": run.label})
    yield _options(root)
    yield from _stats(root)
    yield from _not_finite(root)
    yield from _checkpoints(root, run.iteration)
    yield from _weights(root)


def _options(root: Path) -> Finding:
    from mvmsr.config import OptionsError, load
    from mvmsr.config.nmd_options import is_nmd, load_nmd

    if not (root / "options.yml").is_file():
        remedy = "copy the options file that the run was started with to this place"
        return Finding("Run", "options", State.broken, "options.yml is missing", remedy)
    try:
        if is_nmd(root / "options.yml"):
            nmd = load_nmd(root / "options.yml")
            text = (
                f"{nmd.network.type}, a naturalness discriminator, {counted(nmd.train.total_iter, 'iteration')} at most"
            )
            return Finding("Run", "options", State.ok, text, values={"total_iter": nmd.train.total_iter})
        options = load(root / "options.yml")
    except OptionsError as error:
        remedy = "repair the file, or continue with the version that wrote it (see its first line)"
        return Finding("Run", "options", State.broken, str(error), remedy)
    terms, iterations = len(options.train.terms), options.train.total_iter
    text = f"{options.network_g.type}, {counted(terms, 'loss term')}, {counted(iterations, 'iteration')}"
    return Finding("Run", "options", State.ok, text, values={"total_iter": options.train.total_iter})


def _stats(root: Path) -> Iterator[Finding]:
    from mvmsr.report.run_files import read_stats

    path = root / "stats.jsonl"
    if not path.is_file():
        yield Finding("Run", "stats", State.note, "nothing has been logged yet")
        return
    records, problems = read_stats(path)
    for problem in problems:
        remedy = "take these lines out: a continued run keeps nothing behind the first of them"
        yield Finding("Run", "stats", State.broken, problem, remedy)
    iterations = [record["iter"] for record in records]
    back = next((later for one, later in pairwise(iterations) if later < one), None)
    if back is not None:
        text = f"the log goes back to iteration {back:,} after a later one, as if two processes had written it"
        yield Finding("Run", "stats", State.broken, text, "run one process a run directory")
    odd = dict.fromkeys(k for r in records for k, v in r.items() if isinstance(v, float) and not math.isfinite(v))
    if odd:
        first = next(
            r["iter"] for r in records if any(isinstance(r.get(k), float) and not math.isfinite(r[k]) for k in odd)
        )
        text = f"not finite from iteration {first:,} on, at times: {', '.join(odd)}"
        yield Finding("Run", "stats", State.note, text, "lower the learning rate or set train.grad_clip")
    last = iterations[-1] if iterations else 0
    values = {"records": len(records), "last_iteration": last}
    text = f"{counted(len(records), 'record')}, up to iteration {last:,}" if records else "no record yet"
    if not problems and back is None:
        yield Finding(
            "Run", "stats", State.ok, text + ("" if _ends_whole(path) else "; a last line is unfinished"), values=values
        )


def _not_finite(root: Path) -> Iterator[Finding]:
    from mvmsr.report.run_files import not_finite

    for text in not_finite(root):
        yield Finding("Run", "nonfinite", State.note, text, "lower the learning rate or set train.grad_clip")


def _ends_whole(path: Path) -> bool:
    content = path.read_bytes()
    return not content or content.endswith(b"\n")


def _checkpoints(root: Path, logged: int) -> Iterator[Finding]:
    """Every checkpoint against its checksum; the newest good one is where `--auto-resume` goes on."""
    from mvmsr.engine.checkpoint import CheckpointError, load_checkpoint

    folder = root / "checkpoints"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    good: list[int] = []
    for name in [name for name in names if name.isdigit()]:
        try:
            load_checkpoint(folder / name)
            good.append(int(name))
        except CheckpointError as error:
            yield Finding("Run", "checkpoint", State.broken, str(error))
    if leftovers := [name for name in names if name.startswith(".") and name.endswith(".tmp")]:
        text = f"unfinished: {', '.join(leftovers)}"
        yield Finding("Run", "checkpoint", State.note, text, "being written now, or removed by the next --auto-resume")
    if good:
        lost = f"; {logged - good[-1]:,} logged iterations after it would be repeated" if logged > good[-1] else ""
        text = f"{len(good)} complete, by checksum; --auto-resume goes on from iteration {good[-1]:,}{lost}"
        yield Finding("Run", "checkpoints", State.ok, text, values={"iterations": good})
    elif not any(name.isdigit() for name in names):
        yield Finding("Run", "checkpoints", State.note, "none yet; --auto-resume would start from the first iteration")


def _weights(root: Path) -> Iterator[Finding]:
    """Every weights file: its description, and its tensors in the network that it names."""
    from mvmsr.inference.weights import WeightsError, load_generator, load_state, read_info
    from mvmsr.registry import ARCHS

    files = sorted((root / "weights").glob("*.safetensors"))
    if not files:
        yield Finding("Run", "weights", State.note, "none saved yet")
    for path in files:
        try:
            info = read_info(path)
            if info.arch == "NMD":
                ARCHS.get(info.arch)(**info.args).load_state_dict(load_state(path))
            else:
                _, info = load_generator(path)
        except (WeightsError, RuntimeError, TypeError) as error:
            yield Finding("Run", "weights", State.broken, str(error))
            continue
        after = (
            f", after {counted(int(info.extra['iterations']), 'iteration')}"
            if info.extra.get("iterations", "").isdigit()
            else ""
        )
        text = f"{info.arch}, x{info.scale}, {info.parameters:,} values{after}"
        yield Finding("Run", "weights", State.ok, f"{path.name}: {text}", values={"path": str(path)})
