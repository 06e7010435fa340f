"""How long PyTorch's idle threads wait before they sleep; has to be settled before torch is imported."""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = 4_000  # about 0.1 ms; libgomp's default is 300,000
_SETTINGS_OF_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def sleep_soon(environment: MutableMapping[str, str]) -> None:
    """Let idle threads of libgomp (PyTorch's on Linux) sleep after 0.1 ms, where the user has not settled that.

    The threads wait for the last one at the end of every layer, by spinning. Where another program runs on one of the
    processors, the system may put two of them on the same one; the one that spins then keeps it for milliseconds, in
    every layer, from the one that it waits for. 0.1 ms bridges the gaps between layers, so that nothing is lost on a
    free machine: beside one busy program on two processors a step takes 0.7 s instead of 5.3 s, and 0.1 s without it
    (`benchmarks/busy_neighbour.py`).
    """
    if not any(name in environment for name in _SETTINGS_OF_WAITING):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
