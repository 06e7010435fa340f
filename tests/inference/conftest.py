"""Tiny random networks and their weights files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mvmsr.archs import SRResNet
from mvmsr.inference import save_weights

ARGS = {"num_feat": 8, "num_block": 2}


@pytest.fixture
def network() -> SRResNet:
    torch.manual_seed(0)
    network = SRResNet(**ARGS)
    with torch.no_grad():  # outputs spread over [0, 1], so that clamping hides no error
        network.conv_last.bias.fill_(0.5)
    return network.eval()


@pytest.fixture
def weights(network: SRResNet, tmp_path: Path) -> Path:
    return save_weights(tmp_path / "tiny.safetensors", network.state_dict(), "SRResNet", ARGS, 4, {"name": "tiny"})
