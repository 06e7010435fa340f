"""Which curves a report shows: the logged keys of the runs, sorted into groups of small panels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mvmsr.report.run_files import RunFiles, finite


@dataclass(frozen=True)
class Line:
    """One run's values of one key."""

    run: int
    label: str
    iterations: list[int]
    values: list[float]
    style: int = 0
    """Which dashes: lines of one run in one panel differ in it."""


@dataclass(frozen=True)
class Panel:
    """One small figure.

    Attributes:
        styles: what solid, dashed and dotted lines mean, where there are several kinds.
        log: use a logarithmic scale if all values are positive and far enough apart.
        zero: let the axis of values begin at zero.
    """

    title: str
    lines: list[Line]
    styles: tuple[str, ...] = ()
    log: bool = False
    zero: bool = False

    @property
    def logarithmic(self) -> bool:
        """Whether the scale is logarithmic."""
        values = [value for line in self.lines for value in finite(line.values)]
        return self.log and bool(values) and min(values) > 0 and max(values) >= _WIDE * min(values)

    @property
    def alt(self) -> str:
        """The figure in words: first, last, lowest and highest value of each line."""
        scale = ", logarithmic scale" if self.logarithmic else ""
        return f"{self.title} over iterations{scale}. " + " ".join(self._sentences())

    def _sentences(self) -> Iterator[str]:
        for line in self.lines:
            name = f"{line.label}, {self.styles[line.style]}" if self.styles else line.label
            values = finite(line.values)
            if not values:
                yield f"{name}: no finite value."
                continue
            ends = f"first {line.values[0]:.4g} at {line.iterations[0]}, last {line.values[-1]:.4g} at "
            yield f"{name}: {ends}{line.iterations[-1]}, lowest {min(values):.4g}, highest {max(values):.4g}."


@dataclass(frozen=True)
class Group:
    """Panels that belong together, with a word on how to read them."""

    key: str
    title: str
    panels: list[Panel]
    about: str = ""


_WIDE = 3.0
"""Below this ratio of largest to smallest value a logarithmic axis shows nothing that a linear one does not."""
_NETWORKS = {
    "loss_g": "generator",
    "loss_m": "metric network",
    "loss_d": "discriminator",
    "metric_net": "metric network",
}
_DISTANCES = {
    "d_p": "d_p: pairs",
    "d_c": "d_c: centroids",
    "d_g": "d_g: 2-diameters",
    "d_h": "d_h: Hausdorff",
    "p_dist": "p_dist: matrices of squared distances",
}
_HEALTH = {"cos": "cosine of generated and real images' embeddings", "active": "share of active triplets"}
_DIAMETERS = ("diam2_sr", "diam2_gt")


def groups(runs: Sequence[RunFiles]) -> list[Group]:
    """Everything that the runs logged, in the order that a reader wants it; groups without values are left out."""
    keys = list(dict.fromkeys(key for run in runs for key in run.keys()))  # noqa: SIM118 -- not a mapping
    losses = sorted((key for key in keys if key.startswith("loss_")), key=lambda key: "gmd".find(key[5:6]))
    rates = [key for key in keys if key.startswith("lr/")]
    found = [
        Group(
            "validation",
            "Validation",
            [_simple(runs, key, _validation_title(key)) for key in keys if key.startswith("val/")],
            "Mean over the images of each set.",
        ),
        Group(
            "losses",
            "Losses",
            [_simple(runs, key, _loss_title(key), log=True) for key in losses],
            "Terms before their weights; every point is the mean since the point before.",
        ),
        Group(
            "distances",
            "Distances in the embedding space",
            [*_distances(runs, keys)],
            "Distances between the generated and the real images of one training batch under the metric network: of "
            "the two images of a pair, of the centroids, of the 2-diameters, and Hausdorff's. Read them against the "
            "2-diameter of the real images (gt): while it is near zero, the metric network has not spread them yet.",
        ),
        Group(
            "held_out",
            "The metric network on held-out patches",
            [_simple(runs, key, _held_out_title(key), log=True) for key in keys if key.startswith("held_out/")],
            "At every validation, in evaluation mode, on patches of the validation images.",
        ),
        Group(
            "gradients",
            "Gradient norms",
            [_simple(runs, key, _tail(key), log=True) for key in keys if key.startswith("grad_norm/")],
        ),
        Group("rates", "Learning rates", [_several(runs, "learning rate", rates, _tail)] if rates else []),
        Group("speed", "Speed", [*_speed(runs, keys)]),
    ]
    known = {*_DISTANCES, *_HEALTH, *_DIAMETERS, "step_seconds", "data_seconds", "memory_mib"}
    prefixes = ("val/", "held_out/", "loss_", "grad_norm/", "lr/")
    rest = [key for key in keys if key not in known and not key.startswith(prefixes)]
    found.append(Group("other", "Other logged values", [_simple(runs, key, key) for key in rest]))
    return [group for group in found if group.panels]


def _distances(runs: Sequence[RunFiles], keys: list[str]) -> Iterator[Panel]:
    for key, title in _DISTANCES.items():
        if key in keys:
            yield _simple(runs, key, title, log=True)
    if diameters := [key for key in _DIAMETERS if key in keys]:
        yield _several(runs, "2-diameters of the batches", diameters, lambda key: key.removeprefix("diam2_"), log=True)
    for key, title in _HEALTH.items():
        if key in keys:
            yield _simple(runs, key, title)


def _speed(runs: Sequence[RunFiles], keys: list[str]) -> Iterator[Panel]:
    if "step_seconds" in keys:
        yield _simple(runs, "step_seconds", "seconds per iteration", zero=True)
    shares = []
    for number, run in enumerate(runs):
        steps, waits = (dict(zip(*run.series(key), strict=True)) for key in ("step_seconds", "data_seconds"))
        values = {iteration: 100 * wait / steps[iteration] for iteration, wait in waits.items() if steps.get(iteration)}
        if values:
            shares.append(Line(number, run.label, [*values], [*values.values()]))
    if shares:
        yield Panel("share of time waiting for data, %", shares, zero=True)
    if "memory_mib" in keys:
        yield _simple(runs, "memory_mib", "peak memory, MiB", zero=True)


def _simple(runs: Sequence[RunFiles], key: str, title: str, log: bool = False, zero: bool = False) -> Panel:
    """One key, one line a run."""
    return Panel(title, [*_lines(runs, key)], log=log, zero=zero)


def _several(
    runs: Sequence[RunFiles], title: str, keys: Sequence[str], name: Callable[[str], str], log: bool = False
) -> Panel:
    """Several keys in one panel, told apart by dashes."""
    lines = [line for style, key in enumerate(keys) for line in _lines(runs, key, style)]
    return Panel(title, lines, tuple(name(key) for key in keys), log=log, zero=not log)


def _lines(runs: Sequence[RunFiles], key: str, style: int = 0) -> Iterator[Line]:
    for number, run in enumerate(runs):
        iterations, values = run.series(key)
        if values:
            yield Line(number, run.label, iterations, values, style)


def _validation_title(key: str) -> str:
    set_name, _, metric = key.removeprefix("val/").rpartition("/")
    shown = metric.upper() if metric in ("psnr", "ssim", "lpips", "niqe") else metric
    return f"{shown} on {set_name}"


def _held_out_title(key: str) -> str:
    name = key.partition("/")[2]
    if name == "matching_share":
        return "gradient of the matching terms / of the pixel terms"
    return _DISTANCES.get(name, name if name in _DIAMETERS else f"loss: {name}")


def _loss_title(key: str) -> str:
    network, _, term = key.partition("/")
    return f"{_NETWORKS.get(network, network)}: {term}"


def _tail(key: str) -> str:
    name = key.partition("/")[2]
    return _NETWORKS.get(name, name.replace("_", " "))
