"""Digests of files, each file read once in a job, however many rows of the manifest name it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from encoder.clips import Source
from encoder.video.decoder import FileState
from index.files.durable import sha256_of_file


class FileDigests:
    """SHA-256 of files, remembered for as long as their size, inode and times of change stay the same."""

    def __init__(self) -> None:
        self._known: dict[FileState, str] = {}

    def of(self, source: Source) -> str:
        """Hex digest of what a video is in: a file's bytes, or both files' and when the second begins.

        Raises:
            OSError: If one can't be read.
        """
        first = self.sha256(source.path)
        if source.then is None:
            return first
        both = f"{first} {self.sha256(source.then.path)} {source.then.at_s:.3f}"
        return hashlib.sha256(both.encode()).hexdigest()

    def sha256(self, path: Path) -> str:
        """Hex digest of a file's bytes.

        Raises:
            OSError: If it can't be read.
        """
        state = FileState.of(path)
        if state not in self._known:
            self._known[state] = sha256_of_file(path)
        return self._known[state]
