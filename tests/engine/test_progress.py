from __future__ import annotations

import logging

import pytest
from rich.console import Console

from mvmsr.engine.progress import TrainProgress


def _line(values: dict[str, float], caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.INFO), TrainProgress(Console(quiet=True), 0, 10) as progress:
        progress.report(2, values)
    return caplog.text


def test_a_term_is_called_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    assert "pixel 0.5 triplet 2" in _line({"loss_g/pixel": 0.5, "d_p": 1.0, "loss_m/triplet": 2.0}, caplog)


def test_terms_that_two_networks_share_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    values = {"loss_g/pixel": 0.5, "loss_g/gan": 0.25, "loss_d/gan": 0.75}
    assert "pixel 0.5 gan_g 0.25 gan_d 0.75" in _line(values, caplog)
