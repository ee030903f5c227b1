"""What this machine has left, as a process inside a container sees it."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def usable_cores() -> int:
    """Cores that this process may use: affinity and the quota of a container are respected."""
    from loky import cpu_count

    return int(cpu_count())


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that further processes can use, from the machine or from the container, whichever has less.

    Args:
        cgroup: where the limits of the container are.
    """
    import psutil

    left = [int(psutil.virtual_memory().available)]
    for limit, usage, stat, cache in _FILES:
        if (cgroup / limit).exists() and (cgroup / usage).exists():
            most = (cgroup / limit).read_text().strip()
            if most != "max":
                left.append(int(most) - int((cgroup / usage).read_text()) + _entry(cgroup / stat, cache))
    return max(0, min(left))


def peak_memory() -> int:
    """Most bytes that this process has had in memory; 0 where the system does not tell."""
    # Not `resource.getrusage`: its peak includes that of the process that forked this one.
    status = Path("/proc/self/status")
    return 1024 * _entry(status, "VmHWM:") if status.exists() else 0


def _entry(path: Path, name: str) -> int:
    """The number behind `name` in a file of names and numbers; 0 if it is not there."""
    lines = (line.split() for line in path.read_text().splitlines()) if path.exists() else iter(())
    return next((int(line[1]) for line in lines if line and line[0] == name), 0)
