"""Networks give the same values once their batch normalisation lies in their convolutions."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from mvmsr.inference.folding import fold_batch_norm


def _norm(channels: int = 6, **options: Any) -> nn.BatchNorm2d:
    """With statistics as after training, far from those of a new layer."""
    norm = nn.BatchNorm2d(channels, **options)
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        if values is not None:
            nn.init.uniform_(values, 0.05, 2)
    return norm


def _fold(network: nn.Module) -> int:
    """How many were folded; values and channels stay those of the network as it was."""
    network.eval()
    before = copy.deepcopy(network)
    folded = fold_batch_norm(network)
    x = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(network(x), before(x), rtol=1e-4, atol=1e-5)
    return folded


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"eps": 0.3}, {"affine": False}])
def test_values_stay(bias: bool, options: dict[str, Any]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias), _norm(**options), nn.ReLU(), nn.Conv2d(6, 6, 1), _norm())
    assert _fold(network) == 2
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.modules())


def test_what_does_not_follow_a_convolution_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), _norm(), nn.ConvTranspose2d(6, 6, 3), _norm())
    assert _fold(network) == 0


def test_norms_without_statistics_of_their_own_stay() -> None:
    assert _fold(nn.Sequential(nn.Conv2d(3, 6, 3), _norm(track_running_stats=False))) == 0


def test_a_layer_that_stands_in_two_places_still_separates() -> None:
    """PyTorch lists a module's children without repetitions."""
    act = nn.ReLU()
    assert _fold(nn.Sequential(nn.Conv2d(3, 6, 3), act, _norm(), nn.Conv2d(6, 6, 3), act, _norm())) == 0


def test_a_convolution_in_two_places_stays_as_it_is() -> None:
    conv = nn.Conv2d(6, 6, 3)
    assert _fold(nn.Sequential(nn.Conv2d(3, 6, 3), _norm(), conv, _norm(), nn.ReLU(), conv, _norm())) == 1
    inner = nn.Sequential(conv, _norm())
    assert _fold(nn.Sequential(nn.Conv2d(3, 6, 3), conv, nn.ReLU(), inner)) == 0


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="in eval mode only"):
        fold_batch_norm(nn.Sequential(nn.Conv2d(3, 6, 3), _norm()).train())
