"""`--max-memory` holds, whatever the size of the picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvmsr.archs import Compact, SRResNet
from mvmsr.inference import save_weights

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")

PROGRAM = """
import sys
sys.argv = ["mvmsr", "upscale", *sys.argv[1:]]
from mvmsr.cli import app
try:
    app()
except SystemExit as left:
    assert not left.code, left.code
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def _peak_mib(*arguments: object) -> float:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


def _picture(path: Path, side: int) -> Path:
    ramp = (np.add.outer(np.arange(side), np.arange(side)) // 16 % 256).astype(np.uint8)
    Image.fromarray(np.dstack([ramp, ramp.T[::-1], 255 - ramp])).save(path, compress_level=1)
    return path


BAND_PROGRAM = """
import sys
import numpy as np
from mvmsr.data import Picture
from mvmsr.inference import Upscaler

def mib(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

upscaler = Upscaler(sys.argv[1], device="cpu", tile=256)
picture = np.zeros((768, 3000, 3), np.uint8)
upscaler.upscale_to(Picture(picture[:260, :260]), sys.argv[2])
before = mib("VmRSS")
upscaler.upscale_to(Picture(picture), sys.argv[2])
print(mib("VmHWM") - before)
"""


def test_only_the_rows_in_work_are_held_while_a_file_is_written(tmp_path: Path) -> None:
    args = {"num_feat": 4, "num_conv": 1}
    weights = save_weights(tmp_path / "w.safetensors", Compact(**args).state_dict(), "Compact", args, 4)
    call = [sys.executable, "-c", BAND_PROGRAM, str(weights), str(tmp_path / "out.png")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    band = 256 * 4 * 3000 * 4 * 3 * 4 / 2**20  # float32 rows of one row of tiles
    assert float(done.stdout) < 2.5 * band


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["png", "tif"])
def test_twelve_thousand_pixels_a_side_in_less_than_two_gigabytes(tmp_path: Path, format_: str) -> None:
    torch.manual_seed(0)
    args = {"num_feat": 4, "num_conv": 1}
    weights = save_weights(tmp_path / "w.safetensors", Compact(**args).state_dict(), "Compact", args, 4)
    source = _picture(tmp_path / "big.png", 3000)
    out = tmp_path / "out"
    peak = _peak_mib(
        source, "-o", out, "--model", weights, "--device", "cpu", "--format", format_, "--max-memory", "1500M"
    )
    with Image.open(out / f"big.{format_}") as image:
        assert image.size == (12_000, 12_000)
    assert peak < 1500


@pytest.mark.slow
def test_the_limit_holds_where_the_result_is_resized(tmp_path: Path) -> None:
    args = {"num_feat": 4, "num_conv": 1}
    weights = save_weights(tmp_path / "w.safetensors", Compact(**args).state_dict(), "Compact", args, 4)
    source = _picture(tmp_path / "big.png", 2600)
    arguments = (source, "-o", tmp_path / "out", "--model", weights, "--device", "cpu", "--outscale", 3.5)
    assert _peak_mib(*arguments, "--max-memory", "1200M") < 1200


@pytest.mark.slow
def test_a_network_with_large_features_keeps_the_limit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"num_feat": 64, "num_block": 1, "bn": False}
    weights = save_weights(tmp_path / "w.safetensors", SRResNet(**options).state_dict(), "SRResNet", options, 4)
    source = _picture(tmp_path / "big.png", 400)
    arguments = (source, "-o", tmp_path / "out", "--model", weights, "--device", "cpu", "--overwrite")
    tight, loose = (_peak_mib(*arguments, "--max-memory", limit) for limit in ("900M", "4G"))
    assert tight < 900
    assert tight < loose - 100
