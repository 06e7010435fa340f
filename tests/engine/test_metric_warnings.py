"""What is said about a metric network that collapsed, or learned nothing, and how often."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_runs import tiny_options

from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.engine.build import build
from mvmsr.engine.held_out import cut_patches, look_at_held_out
from mvmsr.engine.loop import train
from mvmsr.engine.metric_warnings import YOUNG, Finding, Teller, chances, findings


def test_a_collapse_is_seen_without_validation_and_said_once(
    tmp_path: Path, pictures: Path, console: Console, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvmsr.engine.metric_warnings.YOUNG", 4)
    changes = {"logger.print_freq": 2}
    monkeypatch.setattr("mvmsr.engine.metric_warnings.COLLAPSED", 1e9)
    with caplog.at_level(logging.WARNING):
        train(tiny_options(tmp_path, pictures, "GM", changes), console=console)
    said = [record.message for record in caplog.records if "collapsed" in record.message]
    assert len(said) == 1
    assert said[0].startswith("iter 4 ")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"diam2_gt": 1.0, "matching_share": 0.2}, []),
        ({"diam2_gt": 1.0}, []),
        ({"diam2_gt": 0.017, "matching_share": 0.2}, ["collapsed"]),
        ({"diam2_gt": 1.0, "matching_share": 0.004}, ["0.4 %"]),
        ({"diam2_gt": 0.017, "matching_share": 0.0}, ["collapsed", "0 %"]),
        ({"diam2_gt": 1.0, "matching_share": 6.0}, []),
        ({"diam2_gt": 1.0, "matching_share": 16.2}, ["16.2 times"]),
    ],
)
def test_findings(values: dict[str, float], said: list[str]) -> None:
    found = findings(values)
    assert len(found) == len(said)
    assert all(word in finding.problem for word, finding in zip(said, found, strict=True))


@pytest.mark.parametrize(("triplet", "warns"), [(1.0, True), (0.81, True), (0.79, False), (0.1, False)])
def test_a_metric_network_that_knows_nothing_is_named(triplet: float, warns: bool) -> None:
    values = {"diam2_gt": 1.0, "matching_share": 0.2, "triplet": triplet}
    assert findings(values) == []
    found = findings(values, {"triplet": 1.0})
    assert len(found) == warns
    assert all("hardly better than chance" in f.problem and "optim_m.lr" in f.remedy for f in found)
    assert all(f"{triplet:.3g} on held-out patches" in f.problem for f in found)
    assert len(findings({**values, "triplet": 2.5 * triplet}, {"triplet": 2.5})) == warns


def test_chance_is_the_loss_of_a_constant_embedding(tmp_path: Path, pictures: Path) -> None:
    changes = {"train.triplet_opt.margin": 2.5, "train.match_after_iter": YOUNG + 7, "train.total_iter": 2 * YOUNG}
    experiment = build(tiny_options(tmp_path, pictures, "GM", changes))
    patches = cut_patches([load_image_set(pictures, scale=4)], 8, 16)
    assert patches is not None
    with torch.no_grad():
        for parameter in experiment.modules["metric_net"].parameters():
            parameter.zero_()
    values = look_at_held_out(experiment, patches)[0]
    for iteration, expected in ((0, {}), (YOUNG, {}), (YOUNG + 7, {"triplet": pytest.approx(values["triplet"])})):
        experiment.iteration = iteration
        assert chances(experiment) == expected
    assert chances(experiment) == {"triplet": 2.5}
    assert any("chance" in finding.problem for finding in findings(values, chances(experiment)))


def test_a_remedy_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    teller = Teller()
    with caplog.at_level(logging.WARNING):
        assert not teller.tell(1, [])
        assert teller.tell(2, [Finding("It leaks.", "Mend it."), Finding("It rusts.", "Paint it.")])
        assert teller.tell(3, [Finding("It leaks a lot.", "Mend it.")])
    said = [record.message for record in caplog.records]
    assert said == ["iter 2  It leaks. Mend it.", "iter 2  It rusts. Paint it.", "iter 3  It leaks a lot."]
