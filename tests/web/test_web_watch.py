from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mvmsr.inference import Restorer, Upscaler
from mvmsr.inference.in_memory import picture_of_array
from mvmsr.web.watch import Stopped, Watch


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1.0
        return self.seconds


class Up2(nn.Sequential):
    scale = 2

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid(), nn.Identity())


def test_progress_is_counted_in_pixels() -> None:
    told: list[float] = []
    watch = Watch(200, 1e9, told.append, Clock())
    watch.advance(50)
    watch.advance(100)
    watch.advance(100)
    assert told == [0.25, 0.75, 1.0]


def test_each_layer_of_a_tile_is_progress_and_the_hooks_go() -> None:
    told: list[float] = []
    watch, network = Watch(100, 1e9, told.append, Clock()), Up2()
    with watch.over(network):
        network(torch.zeros(1, 3, 5, 10))
        watch.advance(50)
        copy.deepcopy(network)(torch.zeros(1, 3, 2, 2))  # a copy's steps move nothing back
        network(torch.zeros(1, 3, 5, 10))
    assert told == [0.12, 0.25, 0.37, 0.5, 0.5, *[0.51, 0.52, 0.53, 0.54], 0.62, 0.75, 0.87, 1.0]
    network(torch.zeros(1, 3, 5, 10))
    assert len(told) == 13


def test_a_stop_ends_the_work_within_a_tile() -> None:
    network = Up2()
    passed: list[int] = []
    network[1].register_forward_hook(lambda *_: watch.stop())
    network[3].register_forward_hook(lambda *_: passed.append(1))
    watch = Watch(100, 1e9, lambda _part: None)
    upscaler = Upscaler(Restorer(network, 2, "cpu", "32"), tile=0)
    picture = picture_of_array(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    with pytest.raises(Stopped, match="Stopped"), watch.over(network):
        upscaler.upscale(picture, watch.advance)
    assert not passed


def test_time_runs_out() -> None:
    clock = Clock()
    watch = Watch(100, 60.0, lambda _part: None, clock)
    watch.advance(1)
    clock.seconds += 60
    with pytest.raises(Stopped, match="after 60 seconds"):
        watch.advance(1)
