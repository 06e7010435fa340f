"""The files that others published: benchmark sets, training sets, pretrained weights; and our own built-in weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mvmsr.checksum import file_sha256
from mvmsr.cli.doctor_findings import Finding, State
from mvmsr.counting import counted

_PICTURES = {"Set5": 5, "Set14": 14, "BSD100": 100, "Urban100": 100}


def data_sets(data_root: Path | None = None) -> Iterator[Finding]:
    """The data root, and every set that we know: there, missing (and how to get it), or not what it should be."""
    from mvmsr.data.layouts import data_root_or_default
    from mvmsr.data.prepare import known_sets

    root = data_root_or_default(data_root)
    if root.is_dir():
        yield Finding("Data", "data root", State.ok, str(root), values={"path": str(root)})
    else:
        remedy = "set MVMSR_DATA_ROOT or --data-root to the folder that holds your data sets, or prepare some"
        yield Finding("Data", "data root", State.missing, f"{root} does not exist", remedy)
    known = known_sets()
    for name in [*_PICTURES, *(name for name in known if name not in _PICTURES)]:
        if not (root / name).exists():
            what = known[name].title if name in known else f"{_PICTURES[name]} benchmark images"
            remedy = f"mvmsr datasets prepare {name}" if name in known else f"put the images into {root / name}"
            yield Finding("Data", name, State.missing, what, remedy)
        elif name in _PICTURES:
            yield _benchmark_set(name, root / name)
        elif known[name].is_complete(root):
            yield Finding("Data", name, State.ok, f"complete in {root / name}")
        else:
            remedy = f"mvmsr datasets check {root / name}"
            yield Finding("Data", name, State.note, "there, but not in the published layout or incomplete", remedy)


def weights(weights_dir: Path | None = None) -> Iterator[Finding]:
    """Built-in weights, and the pretrained files that metrics and losses use."""
    from mvmsr.inference.weights import BUILTIN_DIR, WeightsError, builtin_names, read_info
    from mvmsr.pretrained import FILES, MissingWeights, locate

    for name in builtin_names():
        try:
            info = read_info(BUILTIN_DIR / f"{name}.safetensors")
            yield Finding(
                "Weights", name, State.ok, f"built in: {info.arch}, x{info.scale}, {info.parameters:,} values"
            )
        except WeightsError as error:
            yield Finding("Weights", name, State.broken, str(error), "install mvmsr again")
    if not builtin_names():
        remedy = "name a --model in mvmsr upscale: a run directory, a weights file, or bicubic"
        yield Finding("Weights", "built-in model", State.missing, "there are no built-in weights", remedy)
    for name, entry in FILES.items():
        try:
            path = locate(name, weights_dir)
        except MissingWeights as error:
            remedy = " ".join(str(error).partition("Remedy: ")[2].split())
            yield Finding(
                "Weights", name, State.missing, f"{entry.filename} is not here; it is for {entry.used_for}", remedy
            )
            continue
        digest = file_sha256(path) if entry.sha256_prefix else ""
        if digest.startswith(entry.sha256_prefix):
            yield Finding("Weights", name, State.ok, str(path), values={"path": str(path)})
        else:
            text = (
                f"{path} has SHA-256 {digest[:16]}..., expected {entry.sha256_prefix}...: it is damaged or another file"
            )
            yield Finding("Weights", name, State.broken, text, f"delete it and download {entry.url}")


def _benchmark_set(name: str, folder: Path) -> Finding:
    from mvmsr.data.prepare import check

    report, expected = check(folder), _PICTURES[name]
    values = {"path": str(folder), "pictures": report.pairs}
    remedy = f"mvmsr datasets check {folder}"
    if report.problems:
        more = f" (and {counted(len(report.problems) - 1, 'more problem')})" if len(report.problems) > 1 else ""
        return Finding("Data", name, State.broken, f"{report.problems[0]}{more}", remedy, values)
    if report.pairs != expected:
        found = f"{counted(report.pairs, 'image')} in {folder}, but the published set has {expected}"
        text = f"{found}: its scores are not comparable"
        return Finding("Data", name, State.broken, text, remedy, values)
    made = report.pairs - report.with_lq
    text = f"{counted(report.pairs, 'image')}, layout {report.layout}" + (
        f", {made} of low quality to be made" if made else ""
    )
    return Finding("Data", name, State.ok, text, values=values)
