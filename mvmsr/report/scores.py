"""The tables of a report: validation scores, and what each run was."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mvmsr.counting import counted
from mvmsr.decimals import fixed
from mvmsr.durations import duration
from mvmsr.report.run_files import RunFiles, finite


@dataclass(frozen=True)
class ScoreCell:
    """A score as shown; `iteration` is None where nothing was scored."""

    text: str
    iteration: int | None = None
    best: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the runs: for each the last ones and the best ones."""

    columns: tuple[tuple[str, str], ...]
    """(set, metric with its arrow)"""
    rows: tuple[tuple[int, str, str, tuple[ScoreCell, ...]], ...]
    """(number and label of the run, "last" or "best", cells)"""


@dataclass(frozen=True)
class Fact:
    """One property of every run; `differs` where the runs do not agree in it."""

    name: str
    values: tuple[tuple[str, ...], ...]
    """The lines of each run's cell."""

    @property
    def differs(self) -> bool:
        """Whether the runs do not agree."""
        return len(set(self.values)) > 1


def score_table(runs: Sequence[RunFiles]) -> ScoreTable | None:
    """Last and best validation scores; None where nothing was validated."""
    keys = list(dict.fromkeys(k for run in runs for k in run.keys() if k.startswith("val/")))  # noqa: SIM118
    if not keys:
        return None
    about = [_about(key.rpartition("/")[2]) for key in keys]
    drawn = []
    for number, run in enumerate(runs):
        series = [run.series(key) for key in keys]
        if not any(values for _, values in series):
            continue
        last = tuple(_last(*pair, decimals) for pair, (_, decimals) in zip(series, about, strict=True))
        best = tuple(_best(*pair, *what) for pair, what in zip(series, about, strict=True))
        drawn.append((number, run.label, "last", last))
        if any(cell.text != "–" for cell in best) and best != last:
            drawn.append((number, run.label, "best", best))
    for column, (higher, _) in enumerate(about):
        drawn = _mark(drawn, column, higher)
    heads = tuple(
        (key.removeprefix("val/").rpartition("/")[0], key.rpartition("/")[2] + _ARROWS[higher])
        for key, (higher, _) in zip(keys, about, strict=True)
    )
    return ScoreTable(heads, tuple(drawn))


def facts(runs: Sequence[RunFiles]) -> list[Fact]:
    """What was trained, on what, how long and how; rows that no run can fill are left out."""
    described = [dict(_describe(run)) for run in runs]
    names = [name for name in _FACTS if any(name in one for one in described)]
    return [Fact(name, tuple(one.get(name, ("–",)) for one in described)) for name in names]


_NETWORKS = {"network": "network_g", "metric network": "network_m", "discriminator": "network_d"}
_FACTS = (
    "progress",
    *_NETWORKS,
    "losses",
    "data",
    "optimizers",
    "schedule",
    "precision",
    "seed",
    "speed",
    "written by",
)
_ARROWS = {True: " ↑", False: " ↓", None: ""}
_Row = tuple[int, str, str, tuple[ScoreCell, ...]]


def _about(metric: str) -> tuple[bool | None, int]:
    """Whether higher is better (None: unknown), and how many decimals are shown."""
    from mvmsr.metrics.build import VARIANTS
    from mvmsr.registry import METRICS

    name = VARIANTS.get(metric, (metric, {}))[0]
    if name not in METRICS:
        return None, 4
    cls = METRICS.get(name)
    return getattr(cls, "higher_is_better", None), getattr(cls, "decimals", 4)


def _last(iterations: list[int], values: list[float], decimals: int) -> ScoreCell:
    return ScoreCell(fixed(values[-1], decimals), iterations[-1]) if values else ScoreCell("–")


def _best(iterations: list[int], values: list[float], higher: bool | None, decimals: int) -> ScoreCell:
    known = finite(values)
    if not known or higher is None:
        return ScoreCell("–")
    value = max(known) if higher else min(known)
    return ScoreCell(fixed(value, decimals), iterations[values.index(value)])


def _mark(rows: list[_Row], column: int, higher: bool | None) -> list[_Row]:
    """The best of a column marked, by the shown digits; nothing where all are equal."""
    texts = {row[3][column].text for row in rows} - {"–", "nan"}
    if higher is None or len(texts) < 2:
        return rows
    best = (max if higher else min)(texts, key=float)
    marked = []
    for number, label, which, cells in rows:
        cell = replace(cells[column], best=cells[column].text == best)
        marked.append((number, label, which, (*cells[:column], cell, *cells[column + 1 :])))
    return marked


def _describe(run: RunFiles) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "progress", _progress(run)
    for name, key in _NETWORKS.items():
        if section := run.section(key):
            yield name, (_component(section), *(_parameters(run) if key == "network_g" else ()))
    if run.options:
        yield "losses", _losses(run)
        yield "data", _data(run)
        yield "optimizers", _optimizers(run)
        yield "schedule", _schedule(run)
        yield (
            "precision",
            (f"{run.option('precision', default='auto')}, on device {run.option('device', default='auto')}",),
        )
        yield "seed", (str(run.option("manual_seed", default=0)),)
    if speed := _speed(run):
        yield "speed", speed
    if run.written_by:
        yield "written by", (run.written_by,)


def _progress(run: RunFiles) -> tuple[str, ...]:
    total = run.option("train", "total_iter")
    if not isinstance(total, int):
        return (counted(run.iteration, "iteration"),)
    if run.iteration >= total:
        return (f"finished: {counted(total, 'iteration')}",)
    seconds = finite(run.series("step_seconds")[1])
    left = f"about {duration((total - run.iteration) * statistics.median(seconds))} left" if seconds else ""
    return (f"{run.iteration:,} of {counted(total, 'iteration')}", *([left] if left else []))


def _parameters(run: RunFiles) -> Iterator[str]:
    from mvmsr.inference.weights import WeightsError, find_weights, read_info

    try:
        yield f"{read_info(find_weights(run.root)).parameters:,} parameters"
    except WeightsError:  # nothing has been saved yet, or it cannot be read
        return


def _losses(run: RunFiles) -> tuple[str, ...]:
    train = run.section("train")
    lines = []
    for key, term in train.items():
        if key.endswith("_opt") and isinstance(term, dict):
            arguments = {name: value for name, value in term.items() if name != "loss_weight"}
            weight = term.get("loss_weight", 1)
            lines.append(f"{shown(weight)} × {_component(arguments)} as {key.removesuffix('_opt')}")
    return tuple(lines) or ("none",)


def _data(run: RunFiles) -> tuple[str, ...]:
    train = run.section("datasets", "train")
    roots = train.get("dataroot_gt", "–")
    lines = [f"trained on {', '.join(map(str, roots)) if isinstance(roots, (list, tuple)) else roots}"]
    size, batch = train.get("gt_size"), train.get("batch_size_per_gpu")
    if batch:
        crops = f" crops of {size} × {size} px" if size else " images"
        lines.append(f"{batch}{crops} a batch, x{run.option('scale', default=4)}")
    sets = run.section("datasets")
    if names := [str(one.get("name", key)) for key, one in sets.items() if key != "train" and isinstance(one, dict)]:
        lines.append(f"validated on {', '.join(names)} (protocol {run.option('val', 'protocol', default='y')})")
    return tuple(lines)


def _optimizers(run: RunFiles) -> tuple[str, ...]:
    lines = []
    for name, letter in (("generator", "g"), ("metric network", "m"), ("discriminator", "d")):
        section = run.section("train", f"optim_{letter}")
        if run.section(f"network_{letter}") and section:
            lines.append(f"{name}: {_component(section)}")
    return tuple(lines) or ("–",)


def _schedule(run: RunFiles) -> tuple[str, ...]:
    train = run.section("train")
    scheduler = train.get("scheduler")
    lines = [_component(scheduler) if isinstance(scheduler, dict) else "constant learning rate"]
    lines.append(f"{train.get('update', 'alternating')} updates")
    if train.get("ema_decay"):
        lines.append(f"weights averaged with decay {shown(train['ema_decay'])}")
    for key in ("recompute_fake", "metric_grad_leak"):
        if train.get(key):
            lines.append(key)
    for key in ("accumulate", "grad_clip", "match_after_iter", "net_d_iters", "net_d_init_iters", "warmup_iter"):
        usual = {"accumulate": 1, "net_d_iters": 1, "warmup_iter": -1}.get(key, 0)
        if train.get(key, usual) not in (usual, None):
            lines.append(f"{key} {shown(train[key])}")
    return tuple(lines)


def _speed(run: RunFiles) -> tuple[str, ...]:
    steps, waits = (finite(run.series(key)[1]) for key in ("step_seconds", "data_seconds"))
    lines = []
    if steps:
        lines.append(f"{statistics.median(steps):.3g} s per iteration (median)")
    if sum(steps) and waits:
        lines.append(f"{sum(waits) / sum(steps):.1%} of it waiting for data")
    if memory := finite(run.series("memory_mib")[1]):
        lines.append(f"{max(memory):,.0f} MiB at most")
    return tuple(lines)


def _component(section: Mapping[str, Any]) -> str:
    """`SRResNet (num_feat 64, bn false)`."""
    arguments = ", ".join(f"{key} {shown(value)}" for key, value in section.items() if key != "type")
    name = str(section.get("type", "–"))
    return f"{name} ({arguments})" if arguments else name


def shown(value: Any) -> str:
    """A value of the options as people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)
