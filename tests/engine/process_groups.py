"""Processes that talk by gloo, as torchrun would start them, for tests."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

PATIENCE_SECONDS = 900
"""For machines that have much else to do."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process on one machine."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }


def context() -> Any:
    """Where processes come from: one that has imported torch, so that they need not."""
    result = multiprocessing.get_context("forkserver")
    result.set_forkserver_preload(["mvmsr.engine.loop", "mvmsr.losses", "mvmsr.archs"])
    return result


def _serve(rank: int, size: int, port: int, pipe: Connection) -> None:
    os.environ.update(environment(rank, size, port))
    import torch

    torch.set_num_threads(1)
    while (job := pipe.recv()) is not None:
        function, args = job
        try:
            pipe.send((function(*args), None))
        except BaseException as error:
            pipe.send((None, f"{traceback.format_exc()}\n{type(error).__name__}"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Gang:
    """Several processes that run one function after another, all the same."""

    def __init__(self, size: int) -> None:
        port = free_port()
        self._pipes, self._processes = [], []
        for rank in range(size):
            here, there = context().Pipe()
            process: BaseProcess = context().Process(target=_serve, args=(rank, size, port, there), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What `function(*args)` returns in each process; the function is importable by name."""
        for pipe in self._pipes:
            pipe.send((function, args))
        results = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(PATIENCE_SECONDS):
                self.close()  # an answer that comes later would be taken for that to another question
                raise TimeoutError(f"process {rank} does not answer")
            results.append(pipe.recv())
        errors = [f"process {rank}: {error}" for rank, (_, error) in enumerate(results) if error]
        assert not errors, "\n".join(errors)
        return [value for value, _ in results]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            try:
                pipe.send(None)
            except OSError:
                continue
        for process in self._processes:
            process.join(5)
            process.kill()
            process.join()
