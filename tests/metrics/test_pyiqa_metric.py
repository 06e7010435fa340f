from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyiqa")

import torch

from mvmsr.metrics import build_metric, build_metrics, make_protocol
from mvmsr.metrics import pyiqa_metric as door
from mvmsr.metrics.psnr import psnr
from mvmsr.pretrained import MissingWeights
from mvmsr.registry import RegistryError

PROTOCOL = make_protocol("y", 4)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :80]
    gt = np.stack([128 + 60 * np.sin(x / (3 + c)) * np.cos(y / 5) for c in range(3)], axis=2)
    sr = np.clip(gt + rng.normal(0, 9, gt.shape), 0, 255)
    return sr.round().astype(np.uint8), gt.round().astype(np.uint8)


@pytest.fixture(autouse=True)
def _empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("MVMSR_WEIGHTS_DIR", raising=False)


def test_psnr_is_the_formula() -> None:
    sr, gt = pictures()
    metric = build_metric("pyiqa:psnr", device="cpu")
    assert (metric.name, metric.needs_gt, metric.higher_is_better) == ("pyiqa:psnr", True, True)
    assert metric(sr, gt, PROTOCOL) == pytest.approx(psnr(sr, gt), abs=1e-3)
    with pytest.raises(ValueError, match="none was given"):
        metric(sr, None, PROTOCOL)


@pytest.mark.parametrize(
    ("name", "needs_gt", "higher"), [("gmsd", True, False), ("ssim", True, True), ("entropy", False, True)]
)
def test_values_and_directions_are_pyiqas(name: str, needs_gt: bool, higher: bool) -> None:
    import pyiqa

    sr, gt = pictures()
    metric = build_metric(f"pyiqa:{name}", device="cpu")
    assert (metric.needs_gt, metric.higher_is_better) == (needs_gt, higher)
    tensors = [torch.from_numpy(p.transpose(2, 0, 1).copy())[None].float() / 255 for p in (sr, gt)]
    theirs = pyiqa.create_metric(name, device=torch.device("cpu"))
    expected = float(theirs(*tensors[: 2 if needs_gt else 1]))
    assert metric(sr, gt if needs_gt else None, PROTOCOL) == pytest.approx(expected, rel=1e-6)


def test_unknown_names_are_answered_with_the_closest_and_all() -> None:
    with pytest.raises(RegistryError, match=r"no metric 'musik'. Did you mean 'musiq'\? Known: .*gmsd.*vif"):
        build_metrics(["pyiqa:musik"])
    with pytest.raises(RegistryError, match="compares sets of images"):
        build_metrics(["pyiqa:fid"])
    assert {"psnr", "niqe", "musiq"} <= set(door.names())


def test_missing_weights_name_file_and_command_and_nothing_is_asked_of_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("somebody opened a connection")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    doors = urllib.request.urlopen, torch.hub.download_url_to_file, socket.getdefaulttimeout()
    metrics, missing = build_metrics(["psnr", "pyiqa:niqe"], device="cpu")
    assert list(metrics) == ["psnr"]
    (entry,) = missing
    assert entry.metric == "pyiqa:niqe"
    assert "niqe_modelparameters.mat" in entry.why
    assert "pyiqa.create_metric('niqe')" in entry.why
    assert "\n" not in entry.why
    assert doors == (urllib.request.urlopen, torch.hub.download_url_to_file, socket.getdefaulttimeout())


def test_weights_are_taken_from_the_folder(tmp_path: Path) -> None:
    import scipy.io

    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(MissingWeights):
        build_metric("pyiqa:niqe", device="cpu", weights_dir=folder)
    model = {"mu_prisparam": np.linspace(0, 1, 36)[None], "cov_prisparam": np.eye(36)}
    scipy.io.savemat(folder / "niqe_modelparameters.mat", model)
    metric = build_metric("pyiqa:niqe", device="cpu", weights_dir=folder)
    assert not metric.needs_gt
    picture = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    assert metric(picture, None, PROTOCOL) > 0
    assert sorted(path.name for path in folder.iterdir()) == ["niqe_modelparameters.mat"]


def test_a_picture_that_it_cannot_score_is_no_number(caplog: pytest.LogCaptureFixture) -> None:
    metric = build_metric("pyiqa:ssim", device="cpu")
    tiny = np.zeros((5, 5, 3), np.uint8)
    assert math.isnan(metric(tiny, tiny, PROTOCOL))
    assert "pyiqa:ssim cannot score an image of 5x5" in caplog.text


def test_without_pyiqa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.importlib.util, "find_spec", lambda name: None)
    _, missing = build_metrics(["pyiqa:psnr"])
    assert missing[0].why == "pyiqa is not installed; `pip install pyiqa` mends it"


def test_our_own_metrics_do_not_import_it() -> None:
    code = "import json, sys, mvmsr.metrics as m; m.build_metric('psnr'); print(json.dumps('pyiqa' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
