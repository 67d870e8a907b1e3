"""Digests of files, each file read once in a job, however many rows of the manifest name it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from encoder.clips import Source
from encoder.video.decoder import FileState
from index.files.durable import sha256_of_file
from index.files.kept_digests import KeptDigests


class FileDigests:
    """SHA-256 of files, remembered for as long as their size, inode and times of change stay the same.

    Args:
        kept: those of earlier jobs, and a place for new ones; None to read each file once.
        rehash: whether those of earlier jobs are not believed.
    """

    def __init__(self, kept: KeptDigests | None = None, *, rehash: bool = False) -> None:
        self._known: dict[FileState, str] = {}
        self._kept, self._rehash = kept, rehash

    def of(self, source: Source, patient_id: str = "") -> str:
        """Hex digest of what a video is in: a file's bytes, or both files' and when the second begins.

        Args:
            source: the video.
            patient_id: whose it is, to keep the digest for the next job; empty to keep none.

        Raises:
            OSError: If one can't be read.
        """
        first = self.sha256(source.path, patient_id)
        if source.then is None:
            return first
        both = f"{first} {self.sha256(source.then.path, patient_id)} {source.then.at_s:.3f}"
        return hashlib.sha256(both.encode()).hexdigest()

    def sha256(self, path: Path, patient_id: str = "") -> str:
        """Hex digest of a file's bytes.

        Args:
            path: the file.
            patient_id: see `of`.

        Raises:
            OSError: If it can't be read.
        """
        state = FileState.of(path)
        if state in self._known:
            return self._known[state]
        found = None if self._kept is None or self._rehash else self._kept.find(path, state)
        if found is None:
            found = sha256_of_file(path)
            if self._kept is not None and patient_id and FileState.of(path) == state:
                self._kept.keep(path, state, max(state.modified_ns, state.changed_ns), found, patient_id)
        self._known[state] = found
        return found
