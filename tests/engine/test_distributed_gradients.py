"""Several processes with a part of the batch each take the gradients of one with all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_groups import Gang
from shared_gradients import of_combinations, of_layers, of_terms, of_twenty_iterations

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")

FUNCTIONS = {
    "layers": of_layers,
    "combinations": of_combinations,
    "terms": of_terms,
    "twenty iterations": of_twenty_iterations,
}
SIZES = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=SIZES)
def gang(request: pytest.FixtureRequest) -> Iterator[Gang]:
    """Two processes, or four."""
    processes = Gang(request.param)
    yield processes
    processes.close()


@pytest.fixture(scope="module")
def alone(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What one process finds, computed once."""
    known: dict[str, Any] = {}

    def find(what: str) -> Any:
        if what not in known:
            known[what] = FUNCTIONS[what](tmp_path_factory.mktemp("alone"), pictures)
        return known[what]

    return find


@pytest.mark.parametrize(
    "what", ["layers", "combinations", "terms", pytest.param("twenty iterations", marks=pytest.mark.slow)]
)
def test_gradients_values_and_statistics_are_those_of_one_process(
    what: str, gang: Gang, alone: Callable[[str], Any], pictures: Path, tmp_path: Path
) -> None:
    expected = alone(what)
    for found in gang.run(FUNCTIONS[what], tmp_path, pictures):
        assert list(found) == list(expected)
        for case, tensors in expected.items():
            assert list(found[case]) == list(tensors)
            for name, want in tensors.items():
                message = f"{case}: {name}"
                np.testing.assert_allclose(found[case][name], want, rtol=1e-6, atol=1e-9, err_msg=message)
