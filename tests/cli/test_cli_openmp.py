"""Threads that wait for one another sleep soon, so that another program does not hold them all up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mvmsr.cli.openmp import SPINS, sleep_soon


def test_what_the_user_has_settled_stands():
    for settled in ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        environment = dict(settled)
        sleep_soon(environment)
        assert environment == settled


def test_otherwise_idle_threads_spin_briefly():
    environment = {"OMP_NUM_THREADS": "2"}
    sleep_soon(environment)
    assert environment == {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": str(SPINS)}


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch brings libgomp on Linux only")
@pytest.mark.parametrize("program", [["-m", "mvmsr"], ["-c", "from mvmsr.cli import app; app()"]])
def test_it_is_settled_before_torch_loads_libgomp(program: list[str]):
    """libgomp reads its settings once, when it is loaded, and tells them if asked."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    finished = subprocess.run(
        [sys.executable, *program, "models", "list"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in finished.stderr
