"""pyiqa's metrics as losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_runs import tiny_options
from torch import Tensor

pytest.importorskip("pyiqa")

from mvmsr.config import OptionsError
from mvmsr.data.image_io import write_rgb
from mvmsr.engine.logs import read_stats
from mvmsr.engine.loop import train
from mvmsr.engine.quality_judge import QualityJudge
from mvmsr.losses import QualityLoss
from mvmsr.pretrained import MissingWeights

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)


def images() -> tuple[Tensor, Tensor]:
    """sr, which leaves [0, 1] as a generator's output may, and gt; (3, 3, 64, 64)."""
    generator = torch.Generator().manual_seed(0)
    gt = torch.nn.functional.interpolate(torch.rand(3, 3, 8, 8, generator=generator), scale_factor=8, mode="bicubic")
    gt = gt.clamp(0, 1)
    return gt + 0.1 * torch.randn(gt.shape, generator=generator), gt


@pytest.mark.parametrize(("name", "turned"), [("ssim", True), ("gmsd", False)])
def test_values_and_gradients_are_pyiqas_the_better_the_lower(name: str, turned: bool) -> None:
    import pyiqa

    sr, gt = images()
    ours, theirs = sr.clone().requires_grad_(), sr.clone().requires_grad_()
    loss = QualityLoss(QualityJudge(name, CPU), name)(ours, gt)
    loss.backward()
    score = pyiqa.create_metric(name, as_loss=True, device=CPU)(theirs, gt)
    (1 - score if turned else score).backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.item(), (1 - score if turned else score).item())
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_every_image_has_a_loss_of_its_own_and_equal_images_the_least() -> None:
    sr, gt = images()
    judge = QualityJudge("ssim", CPU)
    losses = judge(sr, gt)
    torch.testing.assert_close(losses, torch.cat([judge(a[None], b[None]) for a, b in zip(sr, gt, strict=True)]))
    torch.testing.assert_close(judge(gt, gt), torch.zeros(3))
    assert (losses > 0.1).all()


def test_it_is_in_float32_whatever_the_runs_precision() -> None:
    sr, gt = images()
    judge = QualityJudge("ssim", CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(judge(sr, gt), judge(sr.double(), gt.double()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sim", r"no metric 'sim'. Did you mean 'ssim'"),
        ("niqe", "judges an image by itself; a loss needs one that compares"),
        ("fid", "compares sets of images"),
    ],
)
def test_what_is_no_loss_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QualityJudge(name, CPU)


def test_making_one_is_silent(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        QualityJudge("ssim", CPU)
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


def test_a_metric_without_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiqa.archs.ssim_arch import SSIM

    monkeypatch.setattr(SSIM, "forward", lambda self, sr, gt: sr.detach().mean((1, 2, 3)))
    with pytest.raises(ValueError, match="ssim has no gradient"):
        QualityJudge("ssim", CPU)


def test_missing_weights_are_named() -> None:
    with pytest.raises(MissingWeights, match=r"vgg16-397923af.pth.*MVMSR_WEIGHTS_DIR"):
        QualityJudge("dists", CPU)


def test_a_run_learns_from_it_alone(tmp_path: Path, console: Console) -> None:
    y, x = np.mgrid[:64, :64][..., None]
    for number in range(4):
        waves = 128 + 100 * np.sin(x / (5 + number) + y / (9 - number) + np.arange(3))
        write_rgb(tmp_path / "waves" / f"{number}.png", waves.astype(np.uint8))
    changes = {"train.quality_opt": {"type": "QualityLoss", "metric": "ssim"}, "train.pixel_opt": None}
    changes |= {"train.total_iter": 60, "logger.print_freq": 20, "train.scheduler": None}
    run = train(tiny_options(tmp_path, tmp_path / "waves", changes=changes), console=console)
    losses = [record["loss_g/quality"] for record in read_stats(run.stats) if "loss_g/quality" in record]
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("ms_ssim", r"(?s)train.quality_opt.*patches of 16 pixels.*[Kk]ernel size"),
        ("dists", r"(?s)train.quality_opt.*vgg16-397923af.pth"),
        ("niqe", r"(?s)train.quality_opt.*judges an image by itself"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    tmp_path: Path, pictures: Path, console: Console, metric: str, message: str
) -> None:
    changes = {"train.quality_opt": {"type": "QualityLoss", "metric": metric}}
    with pytest.raises(OptionsError, match=message):
        train(tiny_options(tmp_path, pictures, changes=changes), console=console)
    assert not (tmp_path / "tiny").exists()
