"""Why a state does not fit, in one sentence with the first difference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mvmsr.engine.misfit import misfit


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}, ""),
        (
            {"weight": torch.zeros(4, 2), "bias": torch.zeros(4)},
            "2 of 2 entries differ, the first being weight: (4, 2) in the file, (3, 2) in the network",
        ),
        (
            {"weight": torch.zeros(3, 2)},
            "1 of 2 entries differ, the first being bias: absent in the file, (3,) in the network",
        ),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "count": torch.tensor(1)},
            "1 of 3 entries differ, the first being count: one number in the file, absent in the network",
        ),
    ],
)
def test_what_differs(state: dict[str, Tensor], sentence: str) -> None:
    assert misfit(state, nn.Linear(2, 3)) == sentence
