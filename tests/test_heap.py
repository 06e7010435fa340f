"""What becomes of freed memory."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from mvmsr import heap
{call}
def step():
    kept = [b"x" * (20 * 2**20) for _ in range(4)]  # by malloc, as torch's, and all pages are written
for _ in range(2):
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
