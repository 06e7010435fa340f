"""How much memory the run has taken."""

from __future__ import annotations

import sys

import torch


def peak_memory_mib() -> float:
    """Peak memory so far in MiB: of the GPU where there is one, else of the process; nan where nobody tells."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
