"""What the machine has to give: cores and memory, of which a container may have only a part."""

from __future__ import annotations

import os
from pathlib import Path

# (limit, in use) of the control group of a container, version 2 and version 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the bytes of main memory that can still be taken, or None where the system does not say."""
    available = told("/proc/meminfo", "MemAvailable")
    return None if available is None else min([available, *_left_in_container()])


def told(path: str, name: str) -> int | None:
    """Return the bytes that Linux tells in a file of `Name:   1234 kB` lines, or None."""
    try:
        lines = dict(line.split(":", 1) for line in Path(path).read_text(encoding="utf-8").splitlines())
        return int(lines[name].split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        return None


def _left_in_container() -> list[int]:
    for limit, used in _GROUPS:
        try:
            return [max(int(Path(limit).read_text(encoding="ascii")) - int(Path(used).read_text(encoding="ascii")), 0)]
        except (OSError, ValueError):  # absent, or "max"
            continue
    return []
