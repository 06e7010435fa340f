"""The metric network on held-out patches: values against their definition, warnings, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_runs import tiny_options

from mvmsr.benchmark.image_sets import load_image_set
from mvmsr.engine.build import build, build_batches
from mvmsr.engine.check import check
from mvmsr.engine.held_out import cut_patches, look_at_held_out, save_embeddings
from mvmsr.engine.logs import read_stats
from mvmsr.engine.loop import train
from mvmsr.engine.objective import WeightedTerm
from mvmsr.engine.validation_round import familiar_batches
from mvmsr.losses.geometry import health
from mvmsr.losses.triplet import DirectedTripletLoss


def test_patches_are_where_the_pictures_are(pictures: Path) -> None:
    image_set = load_image_set(pictures, scale=4)
    patches = cut_patches([image_set], 20, 16)
    assert patches is not None
    assert patches.lq.shape == (20, 3, 4, 4)
    assert patches.gt.shape == (20, 3, 16, 16)
    whole = {pair.name: image_set.load(pair) for pair in image_set.pairs}
    for lq, gt in zip(patches.lq.numpy(), patches.gt.numpy(), strict=True):
        places = [
            (top, left)
            for small, large in whole.values()
            for top in range(13)
            for left in range(13)
            if np.array_equal(small[top : top + 4, left : left + 4].transpose(2, 0, 1), lq)
            and np.array_equal(large[4 * top : 4 * top + 16, 4 * left : 4 * left + 16].transpose(2, 0, 1), gt)
        ]
        assert len(places) == 1
    again = cut_patches([image_set], 20, 16)
    assert again is not None
    assert torch.equal(patches.lq, again.lq)


def test_pictures_smaller_than_a_patch_give_none(pictures: Path) -> None:
    assert cut_patches([load_image_set(pictures, scale=4)], 3, 68) is None


def test_values_are_those_of_the_networks_in_evaluation_mode(tmp_path: Path, pictures: Path) -> None:
    options = tiny_options(tmp_path, pictures, "GM")
    check(options)
    experiment = build(options)
    patches = cut_patches([load_image_set(pictures, scale=4)], 40, 16)
    assert patches is not None
    values, gt_embeddings, sr_embeddings = look_at_held_out(experiment, patches)
    assert all(network.training for network in experiment.modules.values())

    generator, metric_net = (experiment.modules[name].eval() for name in ("generator", "metric_net"))
    lq, gt = patches.lq / 255.0, patches.gt / 255.0
    with torch.no_grad():
        expected_gt, expected_sr = metric_net(gt), metric_net(generator(lq))
    torch.testing.assert_close(gt_embeddings, expected_gt)
    torch.testing.assert_close(sr_embeddings, expected_sr)
    shuffle = torch.Generator().manual_seed(0)
    groups = [
        DirectedTripletLoss(triplets="shuffle")(gt, sr, *(torch.randperm(len(gt), generator=shuffle) for _ in range(2)))
        for gt, sr in zip(expected_gt.split(32), expected_sr.split(32), strict=True)
    ]
    assert values["triplet"] == pytest.approx(float(torch.stack(groups).mean()), rel=1e-4)
    for name, value in health(expected_gt, expected_sr).items():
        assert values[name] == pytest.approx(float(value), rel=1e-3, abs=1e-6)


def test_familiar_batches_set_the_statistics_and_leave_no_trace(tmp_path: Path, pictures: Path) -> None:
    """The metric network in training mode on the familiar batches, averaged, then on the patches."""
    options = tiny_options(tmp_path, pictures, "GM")
    experiment = build(options)
    familiar = familiar_batches(build_batches(options))
    assert sum(len(batch.lq) for batch in familiar) == 256
    patches = cut_patches([load_image_set(pictures, scale=4)], 40, 16)
    assert patches is not None
    generator, metric_net = (experiment.modules[name] for name in ("generator", "metric_net"))
    before = {name: value.clone() for name, value in metric_net.state_dict().items()}
    _, gt_embeddings, sr_embeddings = look_at_held_out(experiment, patches, familiar)
    assert all(torch.equal(before[name], value) for name, value in metric_net.state_dict().items())
    assert not torch.equal(gt_embeddings, look_at_held_out(experiment, patches)[1])

    generator.eval()
    for module in metric_net.train().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the average of all batches
    with torch.no_grad():
        for batch in familiar:
            metric_net(torch.cat([batch.gt / 255.0, generator(batch.lq / 255.0)]))
        metric_net.eval()
        torch.testing.assert_close(gt_embeddings, metric_net(patches.gt / 255.0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(sr_embeddings, metric_net(generator(patches.lq / 255.0)), rtol=1e-3, atol=1e-4)


def test_familiar_batches_are_those_of_training(tmp_path: Path, pictures: Path) -> None:
    batches = build_batches(tiny_options(tmp_path, pictures, "GM", {"datasets.train.dataset_enlarge_ratio": 3}))
    for number, familiar in enumerate(familiar_batches(batches)[:8]):
        assert familiar.names == batches.batch(number).names
        assert torch.equal(familiar.gt, batches.batch(number).gt)


def test_the_matching_share_grows_with_the_weights(tmp_path: Path, pictures: Path) -> None:
    shares = []
    for factor in (1, 10):
        changes = {"train.pair_opt.loss_weight": 0.01 * factor, "train.manifold_opt.loss_weight": 0.01 * factor}
        experiment = build(tiny_options(tmp_path / str(factor), pictures, "GM", changes))
        patches = cut_patches([load_image_set(pictures, scale=4)], 8, 16)
        assert patches is not None
        shares.append(look_at_held_out(experiment, patches)[0]["matching_share"])
    assert shares[1] == pytest.approx(10 * shares[0], rel=1e-3)


def test_other_terms_of_pictures_are_no_pixel_terms(tmp_path: Path, pictures: Path) -> None:
    experiment = build(tiny_options(tmp_path, pictures, "GM"))
    patches = cut_patches([load_image_set(pictures, scale=4)], 8, 16)
    assert patches is not None
    share = look_at_held_out(experiment, patches)[0]["matching_share"]
    terms = experiment.players["generator"].terms
    terms.append(WeightedTerm("natural", 10.0, lambda sr: sr.square().mean(), ("sr",)))
    assert look_at_held_out(experiment, patches)[0]["matching_share"] == pytest.approx(share)
    terms[:] = [term for term in terms if term.name != "pixel"]
    assert "matching_share" not in look_at_held_out(experiment, patches)[0]


def test_embeddings_are_written_whole(tmp_path: Path) -> None:
    gt, sr = torch.rand(4, 2), torch.rand(4, 2)
    path = save_embeddings(tmp_path / "embeddings", 12, gt, sr)
    assert path.name == "00000012.npz"
    with np.load(path) as stored:
        assert np.array_equal(stored["gt"], gt.numpy())
        assert np.array_equal(stored["sr"], sr.numpy())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_run_logs_them_at_every_validation(tmp_path: Path, pictures: Path, console: Console) -> None:
    changes = {
        "datasets.val": {"name": "own", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 5, "embedding_patches": 12},
    }
    folder = train(tiny_options(tmp_path, pictures, "GM", changes), console=console)
    records = [r for r in read_stats(folder.stats) if "held_out/triplet" in r]
    assert [r["iter"] for r in records] == [5, 10]
    assert {"held_out/diam2_gt", "held_out/d_h", "held_out/matching_share"} <= records[0].keys()
    assert sorted(p.name for p in folder.embeddings.iterdir()) == ["00000005.npz", "00000010.npz"]
    with np.load(folder.embeddings / "00000010.npz") as stored:
        assert stored["gt"].shape == (12, 4)
