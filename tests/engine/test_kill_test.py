"""The program of a hundred kills, with four."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_test.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_four_kills(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, str(PROGRAM), "--kills", "4", "--seed", "1", "--json", str(result)]
    run = subprocess.run(
        [*command, "--scratch", str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    document = json.loads(result.read_text())
    assert document["kills"] == 4
    assert document["runs_equal_bit_for_bit"] == document["runs"] >= 1
    assert document["differences"] == []
    assert not list(tmp_path.glob("kill_test_*")), "runs that are equal are deleted"
