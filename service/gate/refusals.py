"""Refusals that come by the thousand, of strangers and of callers who ask too much: one line with a count for many.

The first refusal of its kind is a line of the audit log at once. Those that follow are counted, and written after a
second, then after two, and so on up to a minute while they go on. How many kinds may be new in a second is limited too:
what is beyond it is counted as one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.audit.trail import Entry, Log
from service.gate.peers import neighbourhood

STRANGERS = "nothing:"
"""What the identities begin with of all who did not or could not say who they are."""
_OTHERS = "others"
_MOST_KINDS = 256
_NEW_A_SECOND, _BURST = 8.0, 64.0
_LONGEST_S = 60.0


@dataclass(slots=True)
class _Kind:
    """One kind of refusal that is still coming in.

    Attributes:
        last: the newest of them.
        count: how many are not written yet.
        pause_s: how long they are counted before they are.
        due: when their line is due.
    """

    last: Entry
    count: int
    pause_s: float
    due: float


class Refusals:
    """Tells which refusal is written now, and writes the others.

    Args:
        audit: the log to write to.
        clock: seconds.
    """

    def __init__(self, audit: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, ...], _Kind] = {}
        self._new, self._since = _BURST, clock()

    def is_news(self, entry: Entry) -> bool:
        """Whether a refusal is to be written now; else it is counted here."""
        strange = entry.caller.startswith(STRANGERS)
        if not strange and entry.code != "RESOURCE_EXHAUSTED":
            return True  # one of the calls a second that its caller may make
        if strange:
            key: tuple[str, ...] = (neighbourhood(entry.peer), entry.code)
        else:
            key = (entry.caller, entry.method, entry.code)
        with self._lock:
            kind = self._kinds.get(key)
            if kind is None and self._may_be_new():
                self._kinds[key] = _Kind(entry, 0, 1.0, self._clock() + 1.0)
                return True
            if kind is None:
                entry = replace(entry, caller=f"{STRANGERS}unknown", peer=_OTHERS)
                kind = self._kinds.setdefault((_OTHERS,), _Kind(entry, 0, 1.0, self._clock() + 1.0))
            kind.last, kind.count = entry, kind.count + 1
            return False

    def write(self, *, everything: bool = False) -> None:
        """Write what was counted and is due, or everything.

        Raises:
            DiskFull: If it can't be written; it is counted on.
        """
        with self._lock:
            now, due = self._clock(), []
            for key, kind in list(self._kinds.items()):
                if kind.count and (everything or now >= kind.due):
                    due.append((kind, kind.count))
                    kind.pause_s = min(2 * kind.pause_s, _LONGEST_S)
                    kind.due = now + kind.pause_s
                elif not kind.count and now >= kind.due + kind.pause_s:
                    del self._kinds[key]
        if due:
            self._audit.append([replace(kind.last, count=count) for kind, count in due])
        with self._lock:
            for kind, count in due:
                kind.count -= count

    def _may_be_new(self) -> bool:
        now = self._clock()
        self._new, self._since = min(self._new + (now - self._since) * _NEW_A_SECOND, _BURST), now
        if self._new < 1 or len(self._kinds) >= _MOST_KINDS:
            return False
        self._new -= 1
        return True
