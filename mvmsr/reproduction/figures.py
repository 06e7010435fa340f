"""The figures of a reproduced table: distortion against perception, the distances of training, and crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.data.image_io import read_rgb
from mvmsr.data.layouts import LayoutError
from mvmsr.engine.logs import read_stats
from mvmsr.engine.run_dir import RunDir
from mvmsr.reproduction.published import PUBLISHED, SETS
from mvmsr.reproduction.rows import Row
from mvmsr.reproduction.runs import Run
from mvmsr.reproduction.scoring import PAPER, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTANCES = {"d_p": "pairs", "d_c": "centroids", "d_g": "2-diameters", "d_h": "Hausdorff"}
CROPPED = (("Set14", 0.5, 0.5), ("BSD100", 0.5, 0.5), ("Urban100", 0.5, 0.5))
"""Sets whose first picture is shown, and where in it the crop's centre lies."""
_CROP = 96


def write_figures(
    table: str, rows: Sequence[Row], runs: Sequence[Run], scores: Scores, out: Path, data_root: str | None = None
) -> dict[str, str]:
    """Write all figures that can be drawn below `out`/figures; their paths from `out`, by caption."""
    figures: dict[str, str] = {}
    ours = [row for row in rows if row.key in scores]
    if ours:
        path = _plane(table, ours, scores, out / "figures" / f"{table}_plane.png")
        figures["PSNR against NIQE: ours filled, the paper's hollow"] = str(path.relative_to(out))
        if crops := _crops(table, ours, out, data_root):
            figures["Crops: original, then the rows (seed 0)"] = str(crops.relative_to(out))
    if distances := _distances(table, runs, out / "figures" / f"{table}_distances.png"):
        figures["Distances between embeddings of real and generated images while training"] = str(
            distances.relative_to(out)
        )
    return figures


def _plane(table: str, rows: Sequence[Row], scores: Scores, path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(SETS), 3.6), layout="constrained")
    for place, set_name in enumerate(SETS):
        axes = figure.add_subplot(1, len(SETS), place + 1, title=set_name, xlabel="PSNR (dB)", ylabel="NIQE")
        axes.invert_yaxis()
        for number, row in enumerate(rows):
            color = f"C{number}"
            found, printed = scores[row.key].get(set_name, {}), PUBLISHED[table][row.key][set_name]
            if "psnr" in found and "niqe" in found:
                axes.plot(found["psnr"].mean, found["niqe"].mean, "o", color=color, label=row.label)
            if row.stem:  # bicubic's printed figures are of luma: they have no place on axes of RGB
                axes.plot(printed["psnr"], printed["niqe"], "o", color=color, fillstyle="none")
        if place == 0 and axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    return _saved(figure, path)


def _distances(table: str, runs: Sequence[Run], path: Path) -> Path | None:
    """Figure 10 of the paper for every row with a metric network (seed 0); None where nothing was logged."""
    from matplotlib.figure import Figure

    series = [(run, found) for run in runs if run.seed == 0 and run.row and (found := _logged(run))]
    if not series:
        return None
    figure = Figure(figsize=(4 * len(DISTANCES), 3.2), layout="constrained")
    for place, (key, name) in enumerate(DISTANCES.items()):
        axes = figure.add_subplot(1, len(DISTANCES), place + 1, title=name, xlabel="iteration", yscale="log")
        for run, records in series:
            assert run.row is not None
            points = [(r["iter"], r[key]) for r in records if r.get(key, 0) > 0]
            axes.plot([x for x, _ in points], [y for _, y in points], label=run.row.label)
        if place == 0:
            axes.legend(fontsize="small")
    return _saved(figure, path)


def _logged(run: Run) -> list[dict[str, float]]:
    return [record for record in read_stats(RunDir(run.folder).stats) if "d_c" in record]


def _crops(table: str, rows: Sequence[Row], out: Path, data_root: str | None) -> Path | None:
    """The middle of one picture of some sets, restored by every row; None where no picture was kept."""
    from matplotlib.figure import Figure

    strips: list[tuple[str, list[tuple[str, np.ndarray]]]] = []
    for set_name, vertical, horizontal in CROPPED:
        try:
            pair = load_image_set(set_name, data_root, 4).pairs[0]
        except (LayoutError, ValueError):
            continue
        tiles = [("original", pair.gt)]
        folders = [(row.label, out / "benchmark" / PAPER / "images" / f"{row.key}_seed0" / set_name) for row in rows]
        tiles += [(label, path) for label, folder in folders if (path := folder / f"{pair.name}.png").is_file()]
        if len(tiles) > 1:
            pictures = [(label, _middle(read_rgb(path), vertical, horizontal)) for label, path in tiles]
            strips.append((f"{set_name} {pair.name}", pictures))
    if not strips:
        return None
    columns = max(len(tiles) for _, tiles in strips)
    figure = Figure(figsize=(1.7 * columns, 2.0 * len(strips)), layout="constrained")
    for line, (title, pictures) in enumerate(strips):
        for column, (label, picture) in enumerate(pictures):
            axes = figure.add_subplot(len(strips), columns, line * columns + column + 1)
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(label if column else title, fontsize="small")
            axes.set_axis_off()
    return _saved(figure, out / "figures" / f"{table}_crops.png")


def _middle(picture: np.ndarray, vertical: float, horizontal: float) -> np.ndarray:
    height, width = picture.shape[:2]
    top = int(max(height - _CROP, 0) * vertical)
    left = int(max(width - _CROP, 0) * horizontal)
    return picture[top : top + _CROP, left : left + _CROP]


def _saved(figure: Figure, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})
    return path
