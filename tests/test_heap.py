"""What becomes of freed memory."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from mvmsr import heap
{call}
def step():
    kept = [torch.ones(2**20 * 5) for _ in range(10)]  # 10 blocks of 20 MiB
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_memory_that_is_kept_is_not_mapped_again() -> None:
    def faults(call: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(call=call)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("heap.keep_for_reuse()") * 10 < faults("heap.hand_back_at_once()")
