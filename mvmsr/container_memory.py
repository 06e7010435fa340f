"""How much memory is left: of the machine, and of what a container's limit allows."""

from __future__ import annotations

import os
from pathlib import Path


def free_memory() -> int | None:
    """Bytes that a process can still take, container limits included; None where that is unknown."""
    known = [amount for amount in (_system_memory(), container_memory()) if amount is not None]
    return min(known, default=None)


def container_memory(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that the control group leaves, None where it sets no limit.

    The kernel's copies of files that were read count as used there, but it gives them up when memory is asked for.
    """
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such group, or no limit: `max`
        return None
    kept = {name: int(value) for name, _, value in (line.partition(" ") for line in lines) if value.isdigit()}
    files = kept.get("inactive_file", 0) + kept.get("active_file", 0)
    return min(max(limit - used + files, 0), limit)


def _system_memory() -> int | None:
    """What the whole machine has; /proc/meminfo knows of no container."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ()):
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None
