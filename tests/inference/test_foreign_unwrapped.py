"""What is taken off before a network is written or counted."""

from __future__ import annotations

from torch import nn

from mvmsr.archs.padded import Padded
from mvmsr.inference.foreign import unwrapped


def test_a_wrapper_of_ours_is_taken_off() -> None:
    network = nn.Conv2d(3, 3, 1)
    assert unwrapped(Padded(network, scale=1, multiple=8)) is network


def test_a_network_with_a_part_called_model_stays_whole() -> None:
    network = nn.Sequential()
    network.model = nn.Conv2d(3, 3, 1)
    assert unwrapped(network) is network
