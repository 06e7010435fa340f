"""What the options get wrong is said with file, line and key, before anything is built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import options_file, tiny_options
from torch import Tensor

from mvmsr import config
from mvmsr.config import OptionsError
from mvmsr.engine.build import build
from mvmsr.engine.check import check
from mvmsr.losses.term import Term
from mvmsr.registry import LOSSES


@pytest.mark.parametrize("networks", ["G", "GM", "GD", "GDM"])
def test_the_tiny_options_are_right(networks: str, pictures: Path, tmp_path: Path) -> None:
    check(tiny_options(tmp_path, pictures, networks))


PAIR = {"type": "PairLoss", "loss_weight": 0.125}
TRIPLET = {"type": "DirectedTripletLoss", "margin": 1.5}


@pytest.mark.parametrize(
    ("networks", "changes", "key", "line", "message"),
    [
        # names
        (
            "G",
            {"network_g.type": "SRResNe"},
            "network_g.type",
            "type: SRResNe",
            "unknown network 'SRResNe'. Did you",
        ),
        ("G", {"train.pixel_opt.type": "L2"}, "train.pixel_opt.type", "type: L2", "unknown loss 'L2'."),
        (
            "G",
            {"train.optim_g.type": "Adan"},
            "train.optim_g.type",
            "type: Adan",
            "unknown optimizer 'Adan'. Did",
        ),
        (
            "G",
            {"train.scheduler.type": "StepLR"},
            "train.scheduler.type",
            "type: StepLR",
            "unknown scheduler 'StepLR'. Did you mean 'MultiStepLR'? Known: MultiStepLR, ",
        ),
        ("G", {"datasets.train.type": "Pairs"}, "datasets.train.type", "type: Pairs", "unknown dataset 'Pairs'"),
        (
            "G",
            {"datasets.train.type": "DegradedImageDataset", "datasets.train.jpeg": [90, 30]},
            "datasets.train.jpeg",
            "jpeg:",
            "jpeg must be [lowest, highest] within 1 and 100, got [90, 30]",
        ),
        (
            "G",
            {"datasets.train.type": "RealESRGANDataset", "datasets.train.kernel_prob2": [0.5, 0.6]},
            "datasets.train.kernel_prob2",
            "kernel_prob2:",
            "kernel_prob2 must be 6 probabilities whose sum is 1, got [0.5, 0.6]",
        ),
        (
            "G",
            {"datasets.train.type": "RealESRGANDataset", "datasets.train.dataroot_lq": "lq"},
            "datasets.train.dataroot_lq",
            "dataroot_lq: lq",
            "dataroot_lq is not read by RealESRGANDataset, which degrades dataroot_gt; take it out",
        ),
        (
            "G",
            {"datasets.train.type": "RealESRGANDataset", "datasets.train.jpeg_range": [30, 95.5]},
            "datasets.train.jpeg_range",
            "jpeg_range:",
            "expected a valid integer, got (30, 95.5)",
        ),
        (
            "G",
            {"datasets.train.type": "DegradedImageDataset", "datasets.train.gt_size": 18},
            "datasets.train.gt_size",
            "gt_size: 18",
            "gt_size must be a positive multiple of scale 4, got 18; use 16",
        ),
        (
            "G",
            {"train.gan_opt": {"type": "GANLoss", "gan_type": "vanilla"}},
            "train.gan_opt",
            "gan_opt:",
            "GANLoss needs network_d, which these options lack; add one, such as network_d: {type: SRGANDiscriminator}",
        ),
        # arguments
        (
            "G",
            {"network_g.num_blok": 2},
            "network_g.num_blok",
            "num_blok: 2",
            "is unknown to SRResNet. Did you",
        ),
        ("G", {"network_g.num_block": "x"}, "network_g.num_block", "num_block: x", "expected a valid integer, got 'x'"),
        ("GM", {"network_m.pool": "sum"}, "network_m.pool", "pool: sum", "expected 'max' or 'avg', got 'sum'"),
        ("G", {"train.pixel_opt.eps": 1.0}, "train.pixel_opt.eps", "eps: 1.0", "is unknown to L1Loss."),
        ("G", {"train.optim_g.beta": 1}, "train.optim_g.beta", "beta: 1", "is unknown to Adam. Did you mean 'betas'?"),
        (
            "G",
            {"train.scheduler.eta": 1},
            "train.scheduler.eta",
            "eta: 1",
            "is unknown to CosineAnnealingLR. Did",
        ),
        (
            "G",
            {"train.scheduler": {"type": "CosineAnnealingRestartLR"}},
            "train.scheduler.periods",
            "scheduler:",
            "is required by CosineAnnealingRestartLR and missing",
        ),
        (
            "G",
            {"datasets.train.gtsize": 8},
            "datasets.train.gtsize",
            "gtsize: 8",
            "is unknown to PairedImageDataset",
        ),
        (
            "G",
            {"datasets.train.dataroot_gt": None},
            "datasets.train.dataroot_gt",
            "train:",
            "is required by Paired",
        ),
        # values that a term's constructor refuses
        (
            "GD",
            {"train.gan_opt": {"type": "GANLoss", "gan_type": "hinge", "real_label_val": 0.9}},
            "train.gan_opt",
            "gan_opt:",
            "gan_type 'hinge' has no labels",
        ),
        # combinations
        (
            "G",
            {"train.pair_opt": PAIR},
            "train.pair_opt",
            "pair_opt:",
            "PairLoss needs network_m, which these",
        ),
        ("G", {"train.t_opt": TRIPLET}, "train.t_opt", "t_opt:", "DirectedTripletLoss needs network_m"),
        ("G", {"train.gan_opt": {"type": "GANLoss"}}, "train.gan_opt", "gan_opt:", "GANLoss needs network_d"),
        (
            "GM",
            {"train.triplet_opt": None},
            "network_m",
            "network_m:",
            "no loss term trains it; add one, such as",
        ),
        (
            "GD",
            {"train.gan_opt": None},
            "network_d",
            "network_d:",
            "no loss term trains it; add one, such as train.g",
        ),
        (
            "G",
            {"train.pixel_opt": None},
            "network_g",
            "network_g:",
            "no loss term trains it; add one, such as train",
        ),
        *(
            ("G", {f"{s}.{k}": value}, f"{s}.{k}", f"{k}:", f"it is for {network}, which these options lack")
            for s, k, value, network in (
                ("path", "pretrain_network_d", "d.pth", "network_d"),
                ("path", "pretrain_network_m", "m.pth", "network_m"),
                ("train", "net_d_iters", 2, "network_d"),
                ("train", "net_d_init_iters", 2, "network_d"),
                ("train", "match_after_iter", 2, "network_m"),
                ("train", "metric_grad_leak", True, "network_m"),
                ("train", "recompute_fake", True, "network_d or network_m"),
            )
        ),
        ("G", {"train.optim_g.type": "LBFGS"}, "train.optim_g.type", "type: LBFGS", "unknown optimizer 'LBFGS'."),
        (
            "G",
            {"train.update": "simultaneous", "precision": "16-mixed"},
            "train.update",
            "update: simultaneous",
            "simultaneous works in precision 32 and bf16-mixed only",
        ),
        *(
            (
                "GM",
                {"train.update": "simultaneous", f"train.{key}": True},
                f"train.{key}",
                f"{key}:",
                "it is for update: alternating; set that, or take this out",
            )
            for key in ("recompute_fake", "metric_grad_leak")
        ),
    ],
)
def test_what_is_refused(
    networks: str, changes: dict[str, Any], key: str, line: str, message: str, pictures: Path, tmp_path: Path
) -> None:
    path = options_file(tmp_path, pictures, networks, changes)
    numbers = [n for n, text in enumerate(path.read_text().splitlines(), 1) if text.strip().startswith(line)]
    with pytest.raises(OptionsError) as caught:
        check(config.load(path))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}:{numbers[0]}: {key}: {message}")
    assert len(lines) == 1


def test_all_problems_are_said_together(pictures: Path, tmp_path: Path) -> None:
    changes = {"network_g.type": "X", "train.pixel_opt.type": "Y", "train.optim_g.type": "Z"}
    with pytest.raises(OptionsError) as caught:
        check(tiny_options(tmp_path, pictures, changes=changes))
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["network_g.type", "train.pixel_opt.type", "train.optim_g.type"]


def test_an_override_is_named_as_such(pictures: Path, tmp_path: Path) -> None:
    options = config.load(options_file(tmp_path, pictures), ["network_g.num_blok=3"])
    with pytest.raises(OptionsError, match=r"--set network_g.num_blok.*: is unknown to SRResNet"):
        check(options)


class Asker(Term):
    """A term that asks for a tensor that no step offers."""

    def forward(self, sr: Tensor, sr_embedding: Tensor) -> Tensor:
        return sr.mean()


@pytest.fixture
def _asker() -> Iterator[None]:
    LOSSES.register()(Asker)
    yield
    del LOSSES._entries["Asker"]


@pytest.mark.usefixtures("_asker")
def test_a_term_that_asks_for_what_there_is_not(pictures: Path, tmp_path: Path) -> None:
    message = r"train.odd_opt: Asker asks for 'sr_embedding', which no step offers. Did you mean 'sr_embeddings'"
    with pytest.raises(OptionsError, match=message):
        check(tiny_options(tmp_path, pictures, "GM", {"train.odd_opt": {"type": "Asker"}}))


@pytest.mark.parametrize(
    ("networks", "changes", "message"),
    [
        ("GM", {"network_m.num_layer": 0}, r"\d+: network_m: MetricNet: num_layer must be at least 1, got 0"),
        ("G", {"train.optim_g.betas": [2.0, 0.9]}, r"\d+: train.optim_g: Adam refuses its arguments: Invalid beta"),
        ("G", {"train.optim_g.betas": 0.9}, r"\d+: train.optim_g: Adam refuses its arguments: "),
        (
            "G",
            {"train.scheduler": {"type": "MultiStepRestartLR", "milestones": [1], "restarts": [0, 2]}},
            r"\d+: train.scheduler: restarts and restart_weights differ in length: 2 and 1",
        ),
        ("G", {"network_g.upscale": 2}, r"\d+: network_g: SRResNet upscales by 2, but scale is 4"),
    ],
)
def test_values_that_only_constructors_know_to_be_wrong(
    networks: str, changes: dict[str, Any], message: str, pictures: Path, tmp_path: Path
) -> None:
    options = tiny_options(tmp_path, pictures, networks, changes)
    check(options)
    with pytest.raises(OptionsError, match=message):
        build(options)
