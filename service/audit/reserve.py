"""Room on a disk that is taken while there is some, and given up when there is none."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

_BYTES = 2**20
"""Some thousand lines of the audit log, while room is made."""

_logger = logging.getLogger(__name__)


class Ballast:
    """A file of a megabyte that holds nothing.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Take the room, where it is not taken and the disk has plenty."""
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < 4 * _BYTES:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _BYTES)
        except OSError:  # of a file system that has no such thing, or was filled just now
            self._path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    @property
    def is_there(self) -> bool:
        """Whether there is any."""
        return self._path.exists()

    def drop(self) -> bool:
        """Give it up; returns whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        _logger.error("the disk is full: what was kept free for answers is used now")
        return True
