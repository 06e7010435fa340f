"""What `auto` means: which device, precision and memory layout suit this machine."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

Precision = Literal["32", "bf16-mixed", "16-mixed"]
DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "32", "bf16-mixed", "16-mixed")


def pick_device(name: str = "auto") -> torch.device:
    """`cuda`, `mps` or `cpu` (`cuda:1` works too); `auto` takes the first of them that this machine has.

    Raises:
        ValueError: the device is unknown or not available here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use one of {', '.join(DEVICES)}") from error
    if device.type not in DEVICES:
        raise ValueError(f"device {name!r} is not supported; use one of {', '.join(DEVICES)}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} was asked for, but torch sees no CUDA device here; use `auto` or `cpu`")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device {name!r} was asked for, but torch sees {count} here, counted from cuda:0")
    if device.type == "mps" and not _has_mps():
        raise ValueError(f"device {name!r} was asked for, but torch sees no MPS device here; use `auto` or `cpu`")
    return device


def pick_precision(name: str, device: torch.device) -> Precision:
    """The precision to compute in; `auto` is bfloat16 where the hardware multiplies it natively, else float32.

    Raises:
        ValueError: the name is unknown, or the device cannot compute in it.
    """
    if name == "auto":
        return "bf16-mixed" if has_fast_bf16(device) else "32"
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; use one of {', '.join(PRECISIONS)}")
    if name == "16-mixed" and device.type == "cpu":
        raise ValueError("precision '16-mixed' needs a GPU; on the CPU use 'bf16-mixed' or '32'")
    return name  # type: ignore[return-value]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware (Ampere or later; AMX or AVX512-BF16), not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return _cpu_has("amx_bf16") or _cpu_has("avx512_bf16")
    return False


def pick_channels_last(setting: bool | Literal["auto"], device: torch.device, precision: str) -> bool:
    """Whether to lay images out as NHWC; `auto` does where that is the faster layout for convolutions."""
    if setting != "auto":
        return setting
    return precision != "32" and device.type in ("cuda", "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a precision; switched off for `32`."""
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "32")


_float32_lock = threading.Lock()
_float32_users = 0
_float32_restore = ExitStack()


@contextmanager
def full_float32(wanted: bool = True) -> Iterator[None]:
    """While inside, a GPU multiplies float32 in float32, where training takes TF32 (10 of 23 bits) for its speed.

    The switches are the whole process's: of several threads inside, the last one out restores them. A backward pass
    follows those of its own time.

    Args:
        wanted: False leaves them as they are.
    """
    global _float32_users
    if not wanted:
        yield
        return
    with _float32_lock:
        if not _float32_users:
            _switch_tf32_off(_float32_restore)
        _float32_users += 1
    try:
        yield
    finally:
        with _float32_lock:
            _float32_users -= 1
            if not _float32_users:
                _float32_restore.close()


def _switch_tf32_off(restore: ExitStack) -> None:
    """Switch TF32 off; closing `restore` switches what was on before on again."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    try:
        convolutions, products = cudnn.allow_tf32, torch.get_float32_matmul_precision() if matmul.allow_tf32 else ""
    except RuntimeError:  # the program uses PyTorch's switches of single operations; these cannot be read then
        for switch in (cudnn.conv, matmul):
            restore.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
            switch.fp32_precision = "ieee"
        return
    if convolutions:
        restore.callback(setattr, cudnn, "allow_tf32", True)
        cudnn.allow_tf32 = False
    if products:
        restore.callback(torch.set_float32_matmul_precision, products)
        torch.set_float32_matmul_precision("highest")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _cpu_has(flag: str) -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get(flag, False))
    probe = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}[flag]
    return bool(getattr(torch.cpu, probe, lambda: False)())


def processor_name() -> str:
    """The CPU's model as Linux names it ("AMD EPYC 9B14"); elsewhere what Python knows of it, at least "arm64"."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def usable_processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processors_busy_elsewhere(threads: int) -> float:
    """Processors that other programs kept busy in the last minute, beside `threads` computing threads of this one.

    0 where the system does not say (Windows).
    """
    return max(0.0, os.getloadavg()[0] - threads) if hasattr(os, "getloadavg") else 0.0


def thread_advice(threads: int, processors: int, busy_elsewhere: float) -> str | None:
    """What to do where the threads of a computation have to share their processors with other programs, or None.

    Threads wait for one another after every layer, so that one which has to wait for its processor holds up all.
    Measured with two threads beside one busy program on two processors: steps of 0.66 s instead of 0.1 s; 0.18 s with
    one thread (`benchmarks/busy_neighbour.py`).
    """
    free = max(1, processors - round(busy_elsewhere))
    if threads <= free:
        return None
    return (
        f"other programs keep about {round(busy_elsewhere)} of {processors} processors busy, and {threads} threads, "
        f"which wait for one another, can take several times as long as {free}: set OMP_NUM_THREADS={free}"
    )
