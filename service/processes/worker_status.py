"""Who serves: each worker of a server says in a file what it has loaded, and any of them can read all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from index.records import Provenance
from service.records import Worker


class WorkerStatuses:
    """Status files of one server's workers.

    Args:
        folder: where its workers say what they serve; None where there is one alone.
        number: number of this worker.
    """

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self._folder = folder
        self._number = number
        self._own: Worker | None = None

    def say(self, provenance: Provenance, tail_clips: int, calls: int) -> None:
        """What this worker serves now."""
        self._own = Worker(os.getpid(), provenance, tail_clips, calls)
        if self._folder is not None:
            # No sync: what a machine that went down has served is nothing to anybody.
            temporary = self._folder / f".{self._number}.tmp"
            temporary.write_text(json.dumps(asdict(self._own)), encoding="utf-8")
            temporary.replace(self._folder / f"{self._number:03d}.json")

    def everyone(self) -> list[Worker]:
        """All workers that live, in order."""
        if self._folder is None:
            return [self._own] if self._own else []
        workers = []
        for path in sorted(self._folder.glob("*.json")):
            values = json.loads(path.read_text(encoding="utf-8"))
            worker = Worker(**{**values, "provenance": Provenance(**values["provenance"])})
            if Path(f"/proc/{worker.pid}").exists():
                workers.append(worker)
        return workers
