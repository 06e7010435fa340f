"""Parameters and multiply-adds are counted as one counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvmsr.archs import SRResNet, count_parameters, multiply_adds


def test_shared_parameters_count_once_and_frozen_ones_too():
    shared = nn.Linear(3, 3)  # 12
    net = nn.Sequential(shared, shared, nn.Linear(3, 1), nn.BatchNorm1d(1))  # 4, 2
    net[2].requires_grad_(False)
    assert count_parameters(net) == 18


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(3, 8, 3, padding=1)], 3 * 8 * 9 * 48),
        ([nn.Conv2d(3, 8, 4, stride=2, padding=1)], 3 * 8 * 16 * 12),
        ([nn.Conv2d(3, 6, 3, padding=1, groups=3)], 6 * 9 * 48),
        ([nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)], 3 * 5 * 16 * 48),
        ([nn.Flatten(), nn.Linear(3 * 48, 7)], 3 * 48 * 7),
        ([nn.BatchNorm2d(3), nn.ReLU(), nn.Upsample(scale_factor=2)], 0),
    ],
)
def test_multiply_adds_of_single_layers(layers, expected):
    assert multiply_adds(nn.Sequential(*layers), 8, 6) == expected


def test_multiply_adds_of_srresnet_by_hand():
    body = 16 * 2 * 64 * 64 * 9 + 64 * 64 * 9
    low = 3 * 64 * 81 + body + 64 * 256 * 9
    expected = 48 * 48 * (low + 4 * 64 * 256 * 9 + 16 * 64 * 3 * 81)
    with torch.device("meta"):
        assert multiply_adds(SRResNet(), 48, 48) == expected


def test_counting_changes_nothing():
    torch.manual_seed(0)
    net = SRResNet(num_feat=4, num_block=1).train()
    net.body[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    assert multiply_adds(net, 5, 5) > 0
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert net.double()(torch.rand(1, 3, 4, 4, dtype=torch.float64)).device.type == "cpu"
