"""Batch normalisation's statistics, measured: against training mode, and put back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mvmsr.archs import MetricNet
from mvmsr.engine.distributed import ALONE
from mvmsr.engine.distributed_batch_norm import synchronise_batch_norm
from mvmsr.engine.precise_statistics import precise_statistics


def _network() -> MetricNet:
    torch.manual_seed(0)
    return MetricNet(num_feat=4, num_layer=3)


def _batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(6, 3, 16, 16, generator=generator) ** k for k in (1, 2, 3)]


@pytest.mark.parametrize("synchronised", [False, True])
def test_statistics_are_the_means_of_those_of_training(synchronised: bool) -> None:
    network = _network()
    if synchronised:
        synchronise_batch_norm(network, ALONE)
    reference = copy.deepcopy(network).train()
    for module in reference.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # PyTorch's cumulative average
    for batch in _batches():
        reference(batch)
    before = copy.deepcopy(network.state_dict())
    network.eval()
    with precise_statistics(network, _batches()):
        torch.testing.assert_close(network(_batches()[0]), reference.eval()(_batches()[0]), rtol=1e-4, atol=1e-5)
        inside = network.state_dict()
        for name, value in reference.state_dict().items():
            if "running" in name:
                torch.testing.assert_close(inside[name], value, rtol=1e-4, atol=1e-6)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_statistics_are_put_back_after_a_failure() -> None:
    network = _network().eval()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError), precise_statistics(network, [torch.rand(2, 5, 16, 16)]):
        pass
    with pytest.raises(ValueError, match="at least one batch"), precise_statistics(network, []):
        pass
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_without_running_statistics_reads_no_batch() -> None:
    def batches():
        raise AssertionError("read")
        yield

    network = MetricNet(num_feat=4, num_layer=3, norm="group").eval()
    with precise_statistics(network, batches()):
        assert network(torch.rand(2, 3, 16, 16)).shape == (2, 32)
