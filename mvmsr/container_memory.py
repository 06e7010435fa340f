"""What a container's memory limit leaves; /proc/meminfo shows the whole machine's memory."""

from __future__ import annotations

from pathlib import Path


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
