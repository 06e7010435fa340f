"""A run's folder says what was run."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from tiny_runs import tiny_options

from mvmsr import config
from mvmsr.engine.build import build
from mvmsr.engine.run_dir import open_run_dir, options_hash


def test_the_options_in_the_folder_are_the_options(pictures: Path, tmp_path: Path) -> None:
    options = tiny_options(tmp_path, pictures, "GDM", {"train.ema_decay": 1e-5, "train.scheduler.eta_min": 1e-7})
    run = open_run_dir(options, resume=False)
    assert run.root == tmp_path / "tiny"
    again = config.load(run.root / "options.yml")
    assert again == options
    assert options_hash(again) == options_hash(options)
    text = (run.root / "options.yml").read_text()
    assert text.startswith("# mvmsr ")
    assert yaml.safe_load(text)["train"]["total_iter"] == 10


def test_the_folder_says_what_the_run_was_computed_on(pictures: Path, tmp_path: Path) -> None:
    experiment = build(tiny_options(tmp_path, pictures))
    run = open_run_dir(experiment.options, resume=False, runs_as=experiment.runs_as)
    line = (run.root / "options.yml").read_text().splitlines()[1]
    assert line == f"# on cpu in 32, contiguous, torch {torch.__version__}, 1 process"


def test_a_folder_without_statistics_may_be_used(pictures: Path, tmp_path: Path) -> None:
    options = tiny_options(tmp_path, pictures)
    for _ in range(2):
        open_run_dir(options, resume=False)


def test_the_fingerprint_sees_every_option(pictures: Path, tmp_path: Path) -> None:
    prints = [
        options_hash(tiny_options(tmp_path, pictures, changes=changes))
        for changes in ({}, {}, {"manual_seed": 4}, {"network_g.bn": False}, {"train.pixel_opt.loss_weight": 0.5})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
