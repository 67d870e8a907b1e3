"""What this process may use of the machine: processors, of which limits leave fewer than there are, and memory."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path, PurePosixPath

_HEAPS, _MALLOC_HEAPS = 2, "MALLOC_ARENA_MAX"
_M_ARENA_MAX = -8
"""Number of the option in malloc.h."""
_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Processors that this process may run on and has the time of, at least 1.

    The smallest of its affinity (`taskset`, a batch system) and the quotas of its control groups (a container's
    `--cpus`, a pod's limit, systemd's `CPUQuota`), these rounded down: a thread more than a quota allows is paused with
    all others until the next period.

    Args:
        cgroups: where control groups are mounted, version 1 or 2.
        own: says which ones this process is in.
    """
    affinity = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    return max(1, min([affinity or 1, *(int(quota) for quota in _quotas(cgroups, own))]))


def keep_few_heaps() -> None:
    """Let all threads of this process, and of those that it starts, share two heaps; before the threads are started.

    The C library gives each of dozens of threads a heap of its own, and what one of them frees no other can use: a
    server's memory would grow for hours. Other C libraries have no such heaps.
    """
    if _MALLOC_HEAPS in os.environ:
        return
    os.environ[_MALLOC_HEAPS] = str(_HEAPS)
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, _HEAPS)


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """Processors that each control group allows, from that of this process up to the outermost."""
    try:
        lines = os.fsdecode(own.read_bytes()).split("\n")
    except OSError:
        return []
    limits = []
    for line in lines:
        _, separator, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator or "\0" in path:
            continue
        if controllers and "cpu" not in controllers.split(","):
            continue
        places = (cgroups / "cpu", cgroups / controllers) if controllers else (cgroups, cgroups / "unified")
        # A container sees its own group as the root, or the host's path below which nothing is mounted: look at all.
        inside = PurePosixPath(path.lstrip("/"))
        groups = [place / group for place in places for group in (inside, *inside.parents)]
        limits += [_quota(group, version=1 if controllers else 2) for group in groups]
    return [quota for quota in limits if quota is not None]


def _quota(group: Path, version: int) -> float | None:
    try:
        if version == 1:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        else:
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError, ArithmeticError):  # no such limit
        return None
