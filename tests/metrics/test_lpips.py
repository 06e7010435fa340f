from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mvmsr.metrics import Lpips, make_protocol
from mvmsr.metrics.lpips_metric import to_signed
from mvmsr.pretrained import MissingWeights

lpips = pytest.importorskip("lpips")
pytestmark = pytest.mark.filterwarnings("ignore:.*weights.*:UserWarning")  # torchvision's, about the package's calls
PROTOCOL = make_protocol("y", 4)


def pictures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gt = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return np.clip(gt.astype(int) + rng.integers(-60, 61, gt.shape), 0, 255).astype(np.uint8), gt


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A folder with a random AlexNet under the published name, and the package's network with the same weights."""
    torch.manual_seed(1)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    published = {"features." + key.split(".", 1)[1]: value for key, value in theirs.net.state_dict().items()}
    published["classifier.6.bias"] = torch.zeros(1000)
    folder = tmp_path_factory.mktemp("weights")
    torch.save(published, folder / "alexnet-owt-7be5be79.pth")
    return folder, theirs


def test_equals_the_package_bit_for_bit(trunk: tuple[Path, torch.nn.Module]) -> None:
    folder, theirs = trunk
    metric = Lpips(device="cpu", weights_dir=folder)
    sr, gt = pictures()
    with torch.no_grad():
        expected = float(theirs(to_signed(sr), to_signed(gt)))
    assert torch.equal(to_signed(sr), lpips.im2tensor(sr))
    assert metric(sr, gt, PROTOCOL) == expected
    assert expected > 0
    assert metric(gt, gt, PROTOCOL) == 0
    assert (metric.name, metric.higher_is_better) == ("lpips", False)


@pytest.mark.slow
def test_equals_the_package_bit_for_bit_with_vgg(tmp_path: Path) -> None:
    torch.manual_seed(2)
    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    published = {"features." + key.split(".", 1)[1]: value for key, value in theirs.net.state_dict().items()}
    torch.save(published, tmp_path / "vgg16-397923af.pth")
    metric = Lpips("vgg", device="cpu", weights_dir=tmp_path)
    sr, gt = pictures(1)
    with torch.no_grad():
        expected = float(theirs(to_signed(sr), to_signed(gt)))
    assert (metric.name, metric(sr, gt, PROTOCOL)) == ("lpips_vgg", expected)


def test_global_random_numbers_are_untouched(trunk: tuple[Path, torch.nn.Module]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Lpips(device="cpu", weights_dir=trunk[0])
    assert torch.equal(torch.rand(2), expected)


def test_small_pictures_and_missing_originals(trunk: tuple[Path, torch.nn.Module]) -> None:
    metric = Lpips(device="cpu", weights_dir=trunk[0])
    assert "needs 31 px" in metric.limitation(30, 99, PROTOCOL)
    small = np.zeros((30, 99, 3), np.uint8)
    assert math.isnan(metric(small, small, PROTOCOL))
    smallest = np.zeros((31, 31, 3), np.uint8)
    assert metric(smallest, smallest, PROTOCOL) == 0
    with pytest.raises(ValueError, match="none was given"):
        metric(small, None, PROTOCOL)


def test_input_range() -> None:
    signed = to_signed(np.array([[[0, 51, 255]]], dtype=np.uint8))
    assert signed.shape == (1, 3, 1, 1)
    assert signed.flatten().tolist() == pytest.approx([-1, -0.6, 1])


def test_never_a_random_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)
    with pytest.raises(MissingWeights, match="needed for the LPIPS metric"):
        Lpips(device="cpu")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ValueError, match="not the weights of alexnet"):
        Lpips(device="cpu", weights_dir=tmp_path)
    with pytest.raises(ValueError, match="use one of alex, vgg"):
        Lpips(net="squeeze")  # type: ignore[arg-type]
