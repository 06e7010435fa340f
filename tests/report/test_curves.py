from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from report_records import mvm_records

from mvmsr.report.curves import Group, Line, Panel, groups
from mvmsr.report.run_files import read_run
from mvmsr.report.svg import draw, smooth, thin


def _groups(make_run: Callable[..., Path], *records: list[dict[str, float]]) -> dict[str, Group]:
    runs = [read_run(make_run(f"run{number}", one)) for number, one in enumerate(records)]
    return {group.key: group for group in groups(runs)}


def _panel(group: Group, title: str) -> Panel:
    return next(panel for panel in group.panels if panel.title == title)


def test_everything_logged_has_its_panel(make_run: Callable[..., Path]) -> None:
    found = _groups(make_run, [*mvm_records(), {"iter": 40, "kid": 3.0}])
    titles = {key: [panel.title for panel in group.panels] for key, group in found.items()}
    assert titles == {
        "validation": ["PSNR on Set5", "SSIM on Set5"],
        "losses": ["generator: pixel", "generator: pair", "metric network: triplet"],
        "distances": [
            "d_p: pairs",
            "d_c: centroids",
            "d_g: 2-diameters",
            "d_h: Hausdorff",
            "2-diameters of the batches",
            "cosine of generated and real images' embeddings",
            "share of active triplets",
        ],
        "gradients": ["generator", "metric network"],
        "rates": ["learning rate"],
        "speed": ["seconds per iteration", "share of time waiting for data, %", "peak memory, MiB"],
        "other": ["kid"],
    }


def test_a_run_without_a_metric_network_has_no_distances(make_run: Callable[..., Path]) -> None:
    assert set(_groups(make_run, [{"iter": 1, "loss_g/pixel": 1.0}])) == {"losses"}
    assert groups([]) == []


def test_waiting_is_a_share_of_the_step(make_run: Callable[..., Path]) -> None:
    records = [
        {"iter": 1, "step_seconds": 0.5, "data_seconds": 0.1},
        {"iter": 2, "step_seconds": 2.0, "data_seconds": 1.0},
        {"iter": 3, "step_seconds": 0.0, "data_seconds": 0.0},
    ]
    line = _panel(_groups(make_run, records)["speed"], "share of time waiting for data, %").lines[0]
    assert (line.iterations, line.values) == ([1, 2], [20.0, 50.0])


def test_runs_share_panels_and_several_keys_differ_by_dashes(make_run: Callable[..., Path]) -> None:
    found = _groups(make_run, [{"iter": 1, "loss_g/pixel": 1.0}], mvm_records())
    pixel = _panel(found["losses"], "generator: pixel")
    assert [(line.run, line.label) for line in pixel.lines] == [(0, "run0"), (1, "run1")]
    rates = found["rates"].panels[0]
    assert rates.styles == ("generator", "metric network")
    assert [(line.run, line.style, line.values[0]) for line in rates.lines] == [(1, 0, 2e-4), (1, 1, 3e-4)]
    diameters = _panel(found["distances"], "2-diameters of the batches")
    assert diameters.styles == ("sr", "gt")
    assert [line.values[-1] for line in diameters.lines] == [40.0, 41.0]


@pytest.mark.parametrize(
    ("values", "log"),
    [([1.0, 3.0], True), ([1.0, 2.9], False), ([0.0, 3.0], False), ([-1.0, 3.0], False), ([math.nan, 1.0, 9.0], True)],
)
def test_the_scale_is_logarithmic_where_values_are_positive_and_apart(values: list[float], log: bool) -> None:
    line = Line(0, "a", list(range(len(values))), values)
    assert Panel("loss", [line], log=True).logarithmic == log
    assert not Panel("loss", [line]).logarithmic


def test_the_alt_text_tells_the_curve() -> None:
    panel = Panel("PSNR on Set5", [Line(0, "a", [10, 20, 30], [25.0, 28.0, 27.5]), Line(1, "b", [10], [math.nan])])
    assert panel.alt == (
        "PSNR on Set5 over iterations. a: first 25 at 10, last 27.5 at 30, lowest 25, highest 28. b: no finite value."
    )


def _smooth_naively(values: list[float]) -> list[float]:
    sigma = len(values) / 50
    smoothed = []
    for i in range(len(values)):
        near = [j for j in range(len(values)) if abs(i - j) <= math.ceil(2.5 * sigma) and math.isfinite(values[j])]
        weights = [math.exp(-((i - j) ** 2) / (2 * sigma**2)) for j in near]
        smoothed.append(sum(w * values[j] for w, j in zip(weights, near, strict=True)) / sum(weights))
    return smoothed


def test_smoothing_is_a_normalised_gaussian_that_leaves_out_what_is_not_finite() -> None:
    values = np.random.default_rng(0).normal(size=100)
    values[[3, 50]] = math.nan, math.inf
    np.testing.assert_allclose(smooth(values), _smooth_naively(values.tolist()), rtol=1e-12)


def test_smoothing_leaves_constants_and_short_series_and_averages_logarithms() -> None:
    np.testing.assert_allclose(smooth([2.5] * 40), 2.5)
    assert smooth([1.0, 9.0, 2.0]).tolist() == [1.0, 9.0, 2.0]
    values = np.exp(np.random.default_rng(0).normal(size=60))
    np.testing.assert_allclose(smooth(values, log=True), np.exp(_smooth_naively(np.log(values).tolist())))
    assert np.isnan(smooth([math.nan] * 60)).all()


def test_thinning_keeps_the_spikes() -> None:
    x = np.arange(10_000)
    y = np.sin(x / 500.0)
    y[4321], y[777], y[5] = 40.0, -40.0, math.nan
    short_x, short_y = thin(x, y, 100)
    assert len(short_x) <= 100
    assert short_y.max() == 40.0
    assert short_y.min() == -40.0
    assert (np.diff(short_x) > 0).all()
    assert (y[short_x] == short_y).all()
    assert thin(x[:100], y[:100], 100)[0] is not x
    np.testing.assert_array_equal(thin(x[:100], y[:100], 100)[0], x[:100])


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [math.nan, math.inf], [1e-9, 1e9], [5.0] * 30, [1.0, math.nan, 3.0] * 500]
)
def test_any_values_can_be_drawn(values: list[float]) -> None:
    panel = Panel('a <b> & "c"', [Line(9, "run", list(range(1, len(values) + 1)), values)], log=True)
    tree = ElementTree.fromstring(draw(panel, "p0"))
    assert tree.get("role") == "img"
    assert tree.get("aria-label") == panel.alt


def test_the_drawing_takes_the_pages_colours_and_loads_nothing() -> None:
    panel = Panel("x", [Line(0, "a", [1, 2], [1.0, 2.0]), Line(3, "b", [1, 2], [2.0, 1.0], 1)], ("first", "second"))
    one, two = draw(panel, "p1"), draw(panel, "p2")
    assert "var(--run0)" in one
    assert "var(--run3)" in one
    assert "currentColor" in one
    assert "#0a0" not in one
    assert "http" not in one
    assert "<style" not in one
    texts = {element.text for element in ElementTree.fromstring(one).iter() if element.text and element.text.strip()}
    assert {"first", "second", "1.25"} <= texts
    ids = [{element.get("id") for element in ElementTree.fromstring(svg).iter()} - {None} for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert draw(panel, "p1") == one


def test_ticks_keep_their_decimals() -> None:
    svg = draw(Panel("SSIM", [Line(0, "a", [1, 2, 3], [0.8711, 0.8774, 0.8830])]), "n")
    labels = [float(label) for label in re.findall(r"<text[^>]*>\s*(0\.8\d*)", svg)]
    assert len(labels) >= 3
    assert len(set(labels)) == len(labels)
