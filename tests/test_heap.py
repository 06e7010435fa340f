"""What becomes of freed memory."""

import os
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
        # Without pages of 2 MiB, which `mvmsr upscale` asks torch for by this variable.
        environment = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"}
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    assert faults("heap.keep_for_reuse()") * 10 < faults("heap.hand_back_at_once()")
