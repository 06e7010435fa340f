"""What a method costs beside what it scores: size, work, time and memory, measured where it is benchmarked."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mvmsr.archs.flops import multiply_adds

logger = logging.getLogger(__name__)

T = TypeVar("T")
COST_OUTPUT = (720, 1280)
"""Height and width of the picture that multiply-adds are told for: 720p after upscaling."""
_WARM_UP_SIDE = 32
_MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """What is known of a network without running it; None where it cannot be known.

    Attributes:
        parameters: of the network as it runs, with what was merged into its convolutions gone.
        multiply_adds: of its convolution and linear layers, for one picture of `COST_OUTPUT`.
        weights_mib: memory that parameters and buffers take.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    weights_mib: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)


def size_of(restore: object, scale: int) -> Size:
    """Size of an opened method; a method without a network (bicubic, saved pictures) has none."""
    own = getattr(restore, "size", None)
    if isinstance(own, Size):
        return own
    module = getattr(restore, "module", None)
    if not isinstance(module, nn.Module):
        return Size()
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values()
    work: int | None = None
    height, width = (round(side / scale) for side in COST_OUTPUT)
    try:
        work = multiply_adds(module, height, width)
    except Exception as error:  # a network of other authors may do anything on tensors without data
        logger.info("multiply-adds are not counted: %s", error)
    return Size(
        sum(parameter.numel() for parameter in module.parameters()),
        work,
        sum(tensor.nbytes for tensor in tensors) / _MIB,
    )


def warm_up(restore: Callable[[Tensor], Tensor]) -> None:
    """Run a network once on a small picture, so that the first real one does not pay for what is loaded on demand.

    A network that cannot take so small a picture is left to show what it says to real ones.
    """
    with torch.no_grad(), suppress(ValueError, RuntimeError, ArithmeticError):
        restore(torch.full((1, 3, _WARM_UP_SIDE, _WARM_UP_SIDE), 0.5))


class MemoryMeter:
    """Highest memory of a call beyond what was held before it, for pictures larger than any that was measured.

    On CUDA torch's own account; on Linux the resident set's high-water mark, reset by the kernel before the call and
    exact, whatever happens in between. Memory that the process keeps in reserve is given back first, as it would hide
    what the call takes. Elsewhere nothing is measured.

    Args:
        device: where the method computes.
        largest: pixels of the largest picture that is already measured.
    """

    def __init__(self, device: torch.device, largest: int = 0) -> None:
        self.device, self.largest = device, largest

    def begin(self, pixels: int) -> Callable[[], float] | None:
        """Prepares for a call; calling the result after it gives MiB. None where there is nothing to measure."""
        if pixels <= self.largest:
            return None
        start = _begin_cuda(self.device) if self.device.type == "cuda" else _begin_resident(self.device)
        if start is not None:
            self.largest = pixels
        return start


def cost_of(size: Size, pictures: Iterable[tuple[float | None, int | None, float | None]]) -> dict[str, Any]:
    """A method's entry `cost` in result files.

    `seconds_per_megapixel` counts pixels of output, over all pictures together. `peak_mib` is the largest working
    memory of any picture plus the weights, and belongs to networks alone.

    Args:
        pictures: seconds, pixels of output and working MiB of each picture, None where not measured.
    """
    pictures = list(pictures)
    timed = [(seconds, pixels) for seconds, pixels, _ in pictures if seconds is not None and pixels]
    measured = [mib for _, _, mib in pictures if mib is not None]
    pixels = sum(pixels for _, pixels in timed)
    peak = size.weights_mib + max(measured) if size.weights_mib is not None and measured else None
    return {
        "parameters": size.parameters,
        "multiply_adds_720p": size.multiply_adds,
        "seconds_per_megapixel": sum(seconds for seconds, _ in timed) / (pixels / 1e6) if pixels else None,
        "peak_mib": peak,
    }


def _begin_cuda(device: torch.device) -> Callable[[], float]:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    return lambda: (torch.cuda.max_memory_allocated(device) - before) / _MIB


def _begin_resident(device: torch.device) -> Callable[[], float] | None:
    if device.type != "cpu":
        return None
    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_mib("VmRSS")
    except OSError:  # not Linux, or a sandbox without it
        return None
    return lambda: max(_status_mib("VmHWM") - before, 0.0)


def _status_mib(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}")
    return int(found[1]) / 1024
