"""Validation while training: whose scores, which pictures, and what is best."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_runs import assert_same_runs, comparable_stats, final_state, tiny_options

from mvmsr.config import OptionsError
from mvmsr.data.image_io import image_size, read_rgb, write_rgb
from mvmsr.data.imresize import imresize
from mvmsr.engine import loop, validate
from mvmsr.engine.build import build
from mvmsr.engine.checkpoint import load_checkpoint
from mvmsr.engine.stop import StopRequest
from mvmsr.engine.validate import Validation, build_validation, side_by_side
from mvmsr.inference.restorer import Restorer, load_restorer
from mvmsr.inference.weights import read_info
from mvmsr.inference.weights_file import save_weights


def _changes(pictures: Path, **val: Any) -> dict[str, Any]:
    return {
        "datasets.val": {"name": "made", "dataroot_gt": str(pictures)},
        "val": {"val_freq": 1, "metrics": ["psnr"], "samples": 0, **val},
        "train.total_iter": 3,
        "logger.save_checkpoint_freq": 1,
        "logger.keep_last": 1,
    }


def test_scores_are_those_of_the_averaged_generator(pictures: Path, tmp_path: Path) -> None:
    experiment = build(tiny_options(tmp_path, pictures, changes={**_changes(pictures), "train.ema_decay": 0.9}))
    validation = build_validation(experiment.options)
    assert validation is not None
    with torch.no_grad():
        for p in experiment.modules["generator"].parameters():
            p.fill_(float("nan"))  # nobody may look at it
    scores = validation.score(experiment, tmp_path, 1, StopRequest())
    assert scores is not None
    assert set(scores) == {"made/psnr"}
    assert 0 < scores["made/psnr"] < 40
    assert experiment.modules["generator"].training


def test_what_is_scored_computes_as_the_weights_file_will(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: batch normalisation is folded into the convolutions here as there."""
    experiment = build(tiny_options(tmp_path, pictures, changes=_changes(pictures)))
    generator, options = experiment.modules["generator"], experiment.options
    generator(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)))  # statistics other than 0 and 1
    lq = torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(2))
    seen: list[torch.Tensor] = []

    def look(restorer: Restorer, *_: object) -> list[Any]:
        seen.append(restorer(lq))
        return []

    monkeypatch.setattr(validate, "evaluate", look)
    monkeypatch.setattr(validate, "_in_order", lambda *_: [])
    validation = build_validation(options)
    assert validation is not None
    validation.score(experiment, tmp_path, 1, StopRequest())
    path = tmp_path / "g.safetensors"
    save_weights(path, generator.state_dict(), arch="SRResNet", args=options.network_g.args, scale=4)
    assert torch.equal(seen[0], load_restorer(path, "cpu", "32")(lq))
    assert generator.training


def test_a_generator_goes_back_to_training(pictures: Path, tmp_path: Path) -> None:
    experiment = build(tiny_options(tmp_path, pictures, changes=_changes(pictures)))
    validation = build_validation(experiment.options)
    assert validation is not None
    before = {name: value.clone() for name, value in experiment.modules["generator"].state_dict().items()}
    first = validation.score(experiment, tmp_path, 1, StopRequest())
    assert first == validation.score(experiment, tmp_path, 1, StopRequest())
    assert experiment.modules["generator"].training
    after = experiment.modules["generator"].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # running statistics too


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes validation give these scores in turn."""

    def give(*scores: dict[str, float]) -> None:
        left = list(scores)
        monkeypatch.setattr(Validation, "score", lambda *_: left.pop(0))

    return give


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("psnr", (20.0, 30.0, 25.0), 2),
        ("psnr", (20.0, 20.0, 19.0), 1),  # the first of equals
        ("niqe", (5.0, 3.0, 4.0), 2),  # lower is better
    ],
)
def test_the_best_weights_are_kept(
    metric: str, values: tuple[float, ...], best: int, scored: Any, pictures: Path, tmp_path: Path, console: Console
) -> None:
    scored(*({f"made/{metric}": value} for value in values))
    run = loop.train(tiny_options(tmp_path, pictures, changes=_changes(pictures, metrics=[metric])), console=console)
    assert final_state(run.root)["best"] == {"metric": f"made/{metric}", "value": values[best - 1], "iter": best}
    assert read_info(run.weights / "tiny_g_best.safetensors").extra["iterations"] == str(best)
    kept = sorted({best, 3})  # the best one's checkpoint and weights stay when others are pruned
    assert sorted(int(p.name) for p in run.checkpoints.iterdir()) == kept
    assert sorted(p.name for p in run.weights.iterdir()) == [
        *(f"tiny_g_{i:08d}.safetensors" for i in kept),
        "tiny_g_best.safetensors",
    ]
    assert [r[f"val/made/{metric}"] for r in comparable_stats(run.root) if f"val/made/{metric}" in r] == list(values)


def test_the_best_has_a_checkpoint_between_those_that_are_due(
    scored: Any, pictures: Path, tmp_path: Path, console: Console
) -> None:
    changes = {**_changes(pictures), "train.total_iter": 6, "logger.save_checkpoint_freq": 5}
    scored(*({"made/psnr": value} for value in (20.0, 22.0, 30.0, 25.0, 21.0, 29.0)))
    whole = loop.train(tiny_options(tmp_path / "whole", pictures, changes=changes), console=console)
    assert [int(p.name) for p in sorted(whole.checkpoints.iterdir())] == [3, 6]  # 1, 2 and 5 were there for a time
    assert read_info(whole.weights / "tiny_g_00000003.safetensors").extra["iterations"] == "3"
    assert load_checkpoint(whole.checkpoints / "00000003")["best"]["iter"] == 3

    broken = tmp_path / "broken" / "tiny"  # a run that begins again at its best
    shutil.copytree(whole.root, broken)
    shutil.rmtree(broken / "checkpoints" / "00000006")
    scored(*({"made/psnr": value} for value in (25.0, 21.0, 29.0)))
    loop.train(tiny_options(tmp_path / "broken", pictures, changes=changes), auto_resume=True, console=console)
    assert_same_runs(whole.root, broken)


def test_the_best_of_before_is_not_forgotten(scored: Any, pictures: Path, tmp_path: Path, console: Console) -> None:
    scored({"made/psnr": 30.0}, {"made/psnr": 20.0}, {"made/psnr": 10.0}, {"made/psnr": 15.0})
    loop.train(tiny_options(tmp_path, pictures, changes=_changes(pictures)), console=console)
    longer = {**_changes(pictures), "train.total_iter": 4}
    run = loop.train(tiny_options(tmp_path, pictures, changes=longer), auto_resume=True, console=console)
    assert read_info(run.weights / "tiny_g_best.safetensors").extra["iterations"] == "1"


def test_another_metric_begins_anew(scored: Any, pictures: Path, tmp_path: Path, console: Console) -> None:
    scored({"made/psnr": 30.0}, {"made/psnr": 20.0}, {"made/psnr": 10.0}, {"made/ssim": 0.1}, {"made/ssim": 0.2}, {})
    loop.train(tiny_options(tmp_path, pictures, changes=_changes(pictures)), console=console)
    other = {**_changes(pictures, metrics=["ssim", "psnr"]), "train.total_iter": 6}
    run = loop.train(tiny_options(tmp_path, pictures, changes=other), auto_resume=True, console=console)
    assert final_state(run.root)["best"] == {"metric": "made/ssim", "value": 0.2, "iter": 5}


def test_the_best_is_so_on_the_first_set(scored: Any, pictures: Path, tmp_path: Path, console: Console) -> None:
    scored({"made/psnr": 20.0, "b/psnr": 30.0}, {"b/psnr": 31.0}, {"made/psnr": 21.0, "b/psnr": 29.0})
    run = loop.train(tiny_options(tmp_path, pictures, changes=_changes(pictures)), console=console)
    assert final_state(run.root)["best"] == {"metric": "made/psnr", "value": 21.0, "iter": 3}


def test_a_set_without_scores_is_nobodys_best(scored: Any, pictures: Path, tmp_path: Path, console: Console) -> None:
    scored({}, {}, {})
    run = loop.train(tiny_options(tmp_path, pictures, changes=_changes(pictures)), console=console)
    assert final_state(run.root)["best"] == {}
    assert not (run.weights / "tiny_g_best.safetensors").exists()


def test_pictures_to_look_at(pictures: Path, tmp_path: Path, console: Console) -> None:
    changes = {**_changes(pictures, samples=2, save_img=True), "train.total_iter": 1}
    run = loop.train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    names = sorted(str(p.relative_to(run.samples)) for p in run.samples.rglob("*.png"))
    assert names == [
        *(f"00000001/made/p{k}.png" for k in range(6)),
        "00000001_made_p0.png",
        "00000001_made_p1.png",
    ]
    assert image_size(run.samples / "00000001_made_p0.png") == (64, 192)
    together = read_rgb(run.samples / "00000001_made_p0.png")
    assert np.array_equal(together[:, 64:128], read_rgb(run.samples / "00000001" / "made" / "p0.png"))
    assert np.array_equal(together[:, 128:], read_rgb(pictures / "p0.png"))


def test_equal_names_in_several_folders(pictures: Path, tmp_path: Path) -> None:
    """Each is scored and saved by itself."""
    for folder, source in (("a", "p0"), ("b", "p1")):
        (tmp_path / "val" / folder).mkdir(parents=True)
        shutil.copy(pictures / f"{source}.png", tmp_path / "val" / folder / "1.png")
    means = []
    for name, listed in (("a", "a/1.png"), ("b", "b/1.png"), ("both", "a/1.png\nb/1.png")):
        (tmp_path / f"{name}.txt").write_text(listed)
        changes = _changes(tmp_path / "val", samples=2)
        changes["datasets.val"] |= {"meta_info_file": str(tmp_path / f"{name}.txt")}
        options = tiny_options(tmp_path, pictures, changes=changes)
        validation = build_validation(options)
        assert validation is not None
        scores = validation.score(build(options), tmp_path / name, 1, StopRequest())
        assert scores is not None
        means.append(scores["made/psnr"])
    assert means[2] == pytest.approx((means[0] + means[1]) / 2)
    assert means[0] != means[1]
    saved = sorted(path.name for path in (tmp_path / "both").iterdir())
    assert saved == ["00000001_made_a_1.png", "00000001_made_b_1.png"]


def test_a_validation_without_metrics_is_not_repeated(pictures: Path, tmp_path: Path, console: Console) -> None:
    changes = _changes(pictures, metrics=[], samples=1)
    run = loop.train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    before = run.stats.read_text()
    loop.train(tiny_options(tmp_path, pictures, changes=changes), auto_resume=True, console=console)
    assert run.stats.read_text() == before


def test_side_by_side_is_the_middle() -> None:
    gt = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    lq, sr = imresize(gt, 0.25), 255 - gt
    together = side_by_side(lq, sr, gt, side=6)
    assert together.shape == (6, 18, 3)
    assert np.array_equal(together[:, 6:12], sr[3:9, 1:7])
    assert np.array_equal(together[:, 12:], gt[3:9, 1:7])
    assert np.array_equal(together[:, :6], imresize(lq, output_size=(12, 8))[3:9, 1:7])


def test_a_picture_that_fails_gives_no_mean(
    pictures: Path, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pictures, broken)
    (broken / "p3.png").write_bytes((pictures / "p3.png").read_bytes()[:200])  # the header is whole
    changes = {**_changes(broken), "train.total_iter": 1}
    run = loop.train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    assert "No mean of made: it failed on p3" in caplog.text
    assert not any(key.startswith("val/") for record in comparable_stats(run.root) for key in record)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": {"metrics": ["psnrr"]}}, r"val.metrics: .*'psnrr'"),
        ({"val": {"protocol": "yy"}}, r"val.protocol: .*yy"),
        ({"datasets.val": {"name": "x", "dataroot_gt": "/no/such/folder"}}, r"datasets.val: .*/no/such/folder"),
        ({"datasets.val": {"name": "NoSuchSet"}}, r"datasets.val: .*NoSuchSet"),
        *(
            ({"datasets.val": {"name": "x", "dataroot_gt": "p", "filename_tmpl": t}}, r"datasets\.val\.filename_tmpl: ")
            for t in ("{}_{}", "{}{x}", "{", "none")
        ),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=message):
        build_validation(tiny_options(tmp_path, pictures, changes={**_changes(pictures), **changes}))


def test_pictures_are_looked_at_before_training(pictures: Path, tmp_path: Path, console: Console) -> None:
    lq, torn = tmp_path / "lq", tmp_path / "torn"
    for number in range(6):
        write_rgb(lq / f"p{number}.png", np.zeros((16, 16 + (number == 2), 3), np.uint8))
    shutil.copytree(pictures, torn)
    (torn / "p1.png").write_bytes(b"no picture")
    changes = {
        "datasets.train.dataroot_gt": "not/here",
        "datasets.val": {"name": "a", "dataroot_gt": str(pictures), "dataroot_lq": str(lq)},
        "datasets.val_2": {"name": "b", "dataroot_gt": str(torn)},
        "datasets.val_3": {"name": "c"},
    }
    with pytest.raises(OptionsError) as caught:
        loop.train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [f"datasets.{key}" for key in ("train.dataroot_gt", "val.dataroot_lq", "val_2.dataroot_gt", "val_3")]
    for said in ("no data at 'not/here'", "p2.png is 17x16, expected 16x16", "torn/p1.png", "no data at 'c'"):
        assert said in str(caught.value)
    assert not (tmp_path / "tiny").exists()


def test_a_metric_that_cannot_score_a_picture_says_so(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tmp_path / "made"
    shutil.copytree(pictures, made)
    write_rgb(made / "large.png", np.random.default_rng(0).integers(0, 256, (208, 208, 3), dtype=np.uint8))
    experiment = build(tiny_options(tmp_path, pictures, changes=_changes(made, metrics=["psnr", "niqe"])))
    validation = build_validation(experiment.options)
    assert validation is not None
    scores = validation.score(experiment, tmp_path, 1, StopRequest())
    assert scores is not None
    assert set(scores) == {"made/psnr", "made/niqe"}
    count = len(list(pictures.iterdir()))
    assert f"niqe has no score for {count} of {count + 1} images of made; its mean is over the others" in caplog.text
    assert "psnr has no score" not in caplog.text


def test_no_sets_no_validation(pictures: Path, tmp_path: Path) -> None:
    assert build_validation(tiny_options(tmp_path, pictures)) is None
