"""How many files and connections a process may have open."""

from __future__ import annotations

import resource

_OWN = 256
"""For the store, the index, uploads, logs and whatever else is not a caller's connection."""
_PLENTY = 65_536


def raise_soft_limit() -> None:
    """Take what the system would give: the soft limit is there for programs of old that can't count so far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _PLENTY if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def connections_at_most(wanted: int) -> int:
    """Connections: as many as are wanted, but leaving enough descriptors for the process' own files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(min(wanted, soft - _OWN), 16)
