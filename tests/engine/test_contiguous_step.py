"""Steps on contiguous views are the optimizer's own, and leave tensors as they found them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mvmsr.engine.contiguous_step import with_contiguous_steps


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.PReLU(), nn.Conv2d(6, 4, 1), nn.Flatten(), nn.Linear(4 * 36, 2))
    return layers.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(torch.optim.Adam, {}), (torch.optim.AdamW, {"amsgrad": True}), (torch.optim.SGD, {"momentum": 0.9})],
)
def test_the_steps_are_the_optimizers(kind: type[torch.optim.Optimizer], arguments: dict, fused: bool) -> None:
    plain = _network()
    turned = copy.deepcopy(plain)
    mine = with_contiguous_steps(kind)(turned.parameters(), lr=0.01, fused=fused, **arguments)
    theirs = kind(plain.parameters(), lr=0.01, fused=fused, **arguments)
    assert type(mine).__name__ == kind.__name__
    for seed in range(3):
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for network, optimizer in ((plain, theirs), (turned, mine)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for p, q in zip(plain.parameters(), turned.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.stride() == q.stride()
        assert q.grad.shape == q.shape
        state, expected = mine.state[q], theirs.state[p]
        assert state.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, state[name])
    again = kind(turned.parameters(), lr=0.01, fused=fused, **arguments)
    again.load_state_dict(mine.state_dict())


def test_fused_steps_get_contiguous_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network()
    optimizer = with_contiguous_steps(torch.optim.Adam)(network.parameters(), lr=0.01, fused=True)
    seen = []

    def watch(params, grads, exp_avgs, exp_avg_sqs, *rest, **options) -> None:
        seen.extend(t.is_contiguous() for t in [*params, *grads, *exp_avgs, *exp_avg_sqs])

    monkeypatch.setattr(torch, "_fused_adam_", watch)
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert seen == [True] * 4 * 7


def test_a_step_that_fails_leaves_the_shapes() -> None:
    network = _network()
    optimizer = with_contiguous_steps(torch.optim.Adam)(network.parameters(), lr=0.01)
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    shapes = [p.shape for p in network.parameters()]
    optimizer.state[network[0].weight]["exp_avg"] = torch.zeros(5)
    with pytest.raises(RuntimeError):
        optimizer.step()
    assert [p.shape for p in network.parameters()] == shapes
    assert [p.grad.shape for p in network.parameters()] == shapes
