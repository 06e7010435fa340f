from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch

from mvmsr.inference import memory
from mvmsr.inference.memory import auto_tile, is_out_of_memory, parse_bytes, used_memory

CPU = torch.device("cpu")
MIB = 2**20


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2G", 2**31),
        ("1.5g", 3 * 2**29),
        ("800M", 800 * MIB),
        ("64k", 2**16),
        ("1500000K", 1_500_000 * 1024),
        ("2 GiB", 2**31),
        ("512MB", 512 * MIB),
        ("0.5T", 2**39),
    ],
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "2", "G", "-1G", "0M", "2P", "nanG", "twoG", "2GG", "2B", "1e3G", "1.2.3G", "9" * 400 + "G", "1048576T"],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2G"):
        parse_bytes(text)


@pytest.mark.parametrize("limit", [200 * MIB, 500 * MIB, 2000 * MIB])
@pytest.mark.parametrize("width", [100, 5000, 20_000])
@pytest.mark.parametrize("margin", [0, 11, 40])
def test_a_limit_covers_the_tile_and_the_rows_beside_it(
    limit: int, width: int, margin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: 2**40)
    monkeypatch.setattr(memory, "used_memory", lambda _device: 60 * MIB)

    def needed(side: int) -> int:
        return (side + 2 * margin) ** 2 * 4000 + side * 16 * width * 12 * 2

    if needed(16) > limit - limit // 16 - 60 * MIB:
        with pytest.raises(MemoryError, match="raise the limit"):
            auto_tile(4000, CPU, margin, 1, width, 4, limit)
        return
    side = auto_tile(4000, CPU, margin, 1, width, 4, limit)
    assert needed(side) <= limit - limit // 16 - 60 * MIB
    assert side == 512 or needed(side + 2) > limit - limit // 16 - 60 * MIB


def test_a_limit_below_what_is_held_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: 2**40)
    monkeypatch.setattr(memory, "used_memory", lambda _device: 300 * MIB)
    with pytest.raises(MemoryError, match="only 200 MiB are allowed; raise the limit"):
        auto_tile(4000, CPU, 11, limit=200 * MIB)


def test_a_limit_beyond_the_free_memory_takes_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: 100 * 100 * 1000)
    monkeypatch.setattr(memory, "used_memory", lambda _device: 0)
    assert auto_tile(1000, CPU, 0, limit=2**40) == 100


def test_without_a_limit_there_is_always_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: 0)
    assert auto_tile(4000, CPU, 11) == 32
    assert auto_tile(4000, CPU, 11, multiple=24) == 24
    assert auto_tile(4000, CPU, 11, multiple=64) == 64


def test_used_memory_grows_with_what_is_held() -> None:
    before = used_memory(CPU)
    with mmap.mmap(-1, 64 * MIB) as held:  # an array may be given memory that the process holds already
        np.frombuffer(held, np.uint8)[:] = 1
        assert 50 * MIB < used_memory(CPU) - before < 90 * MIB


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("shape mismatch"), False),
        (RuntimeError("The tensor has a non-zero number of elements, but its data is not allocated yet."), False),
    ],
)
def test_which_errors_are_about_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
