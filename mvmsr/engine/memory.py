"""How much memory the run has taken, and what to say when there is not enough."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mvmsr.config import TrainOptions
from mvmsr.inference.memory import is_out_of_memory


class NotEnoughMemoryError(RuntimeError):
    """The device or the machine has no memory left; the message says what to lower."""


@contextmanager
def advised_on_memory(options: TrainOptions, doing: str) -> Iterator[None]:
    """Turn the errors of an allocation that failed into advice.

    Args:
        doing: for the message, as in "iteration 7".

    Raises:
        NotEnoughMemoryError: in place of torch's and Python's own.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        spec, train = options.datasets.train, options.train
        batch, gt_size = spec.batch_size_per_gpu, spec.gt_size
        remedies = []
        least = 1 if options.network_m is None else 2  # a single embedding has no diameter
        parts = next((n for n in range(2, batch // least + 1) if batch % n == 0), None)
        if parts is not None:
            remedies.append(
                f"datasets.train.batch_size_per_gpu={batch // parts} with train.accumulate={train.accumulate * parts} "
                "(the same number of images a step; batch statistics are then those of a part)"
            )
        if gt_size > 2 * options.scale:
            smaller = gt_size // 2 // options.scale * options.scale
            remedies.append(f"datasets.train.gt_size={smaller} (about a quarter of the memory)")
        if options.precision == "32":
            remedies.append("precision=bf16-mixed (about half, where the device has it)")
        if options.val.embedding_patches > 64:
            remedies.append("val.embedding_patches=64, if it was a validation")
        goes_on = f"lower one of these by --auto-resume --set ...: {'; '.join(remedies)}. Or " if remedies else ""
        raise NotEnoughMemoryError(
            f"not enough memory in {doing}, with batches of {batch} patches of {gt_size} pixels: "
            f"{str(error).splitlines()[0] if str(error) else 'MemoryError'}. The last checkpoint is good: "
            f"{goes_on}start again with fewer features or blocks in network_g. --dry-run shows what a run needs."
        ) from error


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
