"""What a metric network made of held-out patches: its directions over time, and a map of real and generated ones."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from mvmsr.counting import counted
from mvmsr.report.curves import Line, Panel
from mvmsr.report.run_files import RunFiles
from mvmsr.report.svg import INK, draw, inline_figure, run_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "embeddings"
EIGENVALUES = 10
_DTYPES = {np.dtype(np.float32), np.dtype(np.float64)}
_MOST_POINTS = 400
"""Points of each kind on a map; more would make the page heavy and hide each other."""


@dataclass(frozen=True)
class Embeddings:
    """One validation's: `gt` and `sr`, (N, D), row i of both from the same patch."""

    iteration: int
    gt: np.ndarray
    sr: np.ndarray


def read_embeddings(root: Path) -> tuple[list[Embeddings], list[str]]:
    """Those of a run directory in order, and a sentence for each file that cannot be read."""
    found, notes = [], []
    for path in sorted((root / FOLDER).glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as stored:
                gt, sr = stored["gt"], stored["sr"]
            fit = gt.ndim == 2 and gt.size and gt.shape == sr.shape and {gt.dtype, sr.dtype} <= _DTYPES
            if not fit or not (np.isfinite(gt).all() and np.isfinite(sr).all()):
                raise ValueError("no two finite arrays of shape (N, D)")
            found.append(Embeddings(int(path.stem), gt, sr))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            notes.append(f"{FOLDER}/{path.name} cannot be read and is left out: {error}")
    return found, notes


def figures(runs: Sequence[RunFiles], name: str) -> tuple[list[dict[str, Any]], list[str], set[int]]:
    """Figures with `title` and `svg`, notes, and the numbers of the runs that have any.

    Args:
        name: makes the ids inside the figures unique on the page.
    """
    from markupsafe import Markup

    drawn: list[dict[str, Any]] = []
    notes: list[str] = []
    shown: set[int] = set()
    for number, run in enumerate(runs):
        history, problems = read_embeddings(run.root)
        notes += [f"{run.label}: {problem}" for problem in problems]
        if not history:
            continue
        shown.add(number)
        suffix = f" ({run.label})" if len(runs) > 1 else ""
        for panel in _spectra(number, run.label, history):
            svg = draw(panel, f"{name}s{len(drawn)}")
            drawn.append({"title": panel.title + suffix, "svg": Markup(svg)})
        points, method = project(np.concatenate([history[-1].gt, history[-1].sr]))
        title = f"real and generated patches after {counted(history[-1].iteration, 'iteration')}, by {method}{suffix}"
        gt, sr = np.split(points, 2)
        drawn.append({"title": title, "svg": Markup(_draw_map(gt, sr, title, f"{name}m{len(drawn)}"))})
    return drawn, notes, shown


def project(points: np.ndarray) -> tuple[np.ndarray, str]:
    """(N, D) points in two dimensions, (N, 2), and the method's name: UMAP where it is installed, else PCA."""
    if util.find_spec("umap") is not None and len(points) > 15:
        import umap

        return umap.UMAP(n_neighbors=15, min_dist=0.1, random_state=0).fit_transform(points), "UMAP"
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ axes[:2].T
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1]))), "PCA"


def _spectra(number: int, label: str, history: list[Embeddings]) -> Iterator[Panel]:
    """Both normalisations of the real patches' distance matrix, at the first, a middle and the last validation."""
    import torch

    from mvmsr.losses.spectrum import distance_spectrum

    chosen = [history[i] for i in sorted({0, len(history) // 2, len(history) - 1})]
    spectra = [distance_spectrum(torch.from_numpy(e.gt), EIGENVALUES) for e in chosen]
    styles = tuple(f"after {e.iteration}" for e in chosen)
    ranks = list(range(1, EIGENVALUES + 1))
    for which, title in enumerate(
        ("ten largest eigenvalues of real patches' distances D / ‖D‖", "ten largest shares of real patches' variance")
    ):
        lines = [Line(number, label, ranks, s[which].tolist(), style) for style, s in enumerate(spectra)]
        yield Panel(title, lines, styles, log=True)


def _draw_map(gt: np.ndarray, sr: np.ndarray, alt: str, name: str) -> str:
    kept = np.linspace(0, len(gt) - 1, min(len(gt), _MOST_POINTS)).astype(int)

    def fill(axes: Axes) -> None:
        axes.axis("off")
        for points, color, what in ((gt, run_color(2), "real"), (sr, run_color(1), "generated")):
            axes.plot(*points[kept].T, "o", color=color, markersize=2, alpha=0.6, markeredgewidth=0, label=what)
        axes.legend(loc="best", frameon=False, fontsize=9, labelcolor=INK, markerscale=2)

    return inline_figure(fill, alt, name, 2.5, (0.02, 0.02, 0.96, 0.96))
