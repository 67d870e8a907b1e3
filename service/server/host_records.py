"""What a server keeps on this host alone: where that may lie, and how it follows what other hosts erase."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from encoder.previews.library import remove_previews_of_the_gone
from index.errors import CannotWrite, StateError
from index.feedback.store import FeedbackStore
from index.files.kept_digests import KeptDigests
from index.tables.blocklist import erased_among
from index.tables.unfinished import Unfinished
from index.words import counted
from index.workspace import Workspace
from service.audit.log import AuditLog
from service.audit.trail import Log, NoLog, folder_of
from service.config import ServerConfig
from service.serving.watcher import StateWatcher

_PASSING = {"tmpfs", "ramfs", "overlay"}
"""Kinds of file systems that end with a container or a machine's uptime."""
_EMPTY_DIR = "kubernetes.io~empty-dir"
"""In the path of Kubernetes' volumes that end with their pod."""

_logger = logging.getLogger(__name__)


def open_records(workspace: Workspace, config: ServerConfig) -> tuple[Log, Path | None]:
    """The audit log, and the file of the day's quotas.

    Raises:
        CannotWrite: If they can't be written, and not only this machine may ask.
        StateError: If the workspace is on object storage, and what this host keeps of it would go with the host.
    """
    if workspace.bucket and config.signs_in and (kind := passing(workspace.root)):
        raise StateError(
            f"what this host keeps of the workspace, the audit log among it, would lie on {kind} and go with it: set "
            "SEMIOME_LOCAL to a folder on a disk that stays; docs/store.md lists what is kept on each host"
        )
    try:
        return AuditLog(workspace), folder_of(workspace) / "quota.sqlite"
    except CannotWrite as error:
        if config.signs_in:
            raise CannotWrite(
                f"{error.why}. Nothing is answered without an audit log: of a read-only workspace the folder audit/ "
                "and the file .key must lie where they can be written",
                error.path,
            ) from None
        _logger.warning("this workspace can't be written: it is served without an audit log, feedback and uploads")
        return NoLog(), None


def passing(place: Path, mounts: str | None = None) -> str:
    """What a folder would lie on, where that ends with a container or a machine's uptime; empty where it stays.

    Args:
        place: the folder, which may not be there yet.
        mounts: what the system says of its mounts, `/proc/self/mountinfo`.
    """
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mounts is None else mounts
    wanted, best, found = os.path.realpath(place), "", ""
    for line in filter(None, text.splitlines()):
        said, _, more = line.partition(" - ")
        root, point = (part.replace("\\040", " ") for part in said.split()[3:5])
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of several at one place the last one counts
            kind = more.split()[0]
            best, found = point, kind if kind in _PASSING else "an emptyDir" if _EMPTY_DIR in root else ""
    return found


class OtherHosts:
    """Follows what other hosts of a shared workspace remove: what this one keeps of it goes too."""

    def __init__(self, workspace: Workspace, watcher: StateWatcher) -> None:
        self._workspace, self._watcher = workspace, watcher
        self._feedback, self._unfinished = FeedbackStore(workspace), Unfinished(workspace)
        self._digests = KeptDigests(workspace.digests)
        self._erasures, self._version = -1, -1

    def follow(self) -> None:
        """Remove what is kept of those erased since the last time, and previews of videos that are gone."""
        erasures, version = self._watcher.erasures, self._watcher.state.provenance.table_version
        if erasures != self._erasures:
            if gone := self._feedback.let_go_of_the_erased():
                _logger.info("removed %s of feedback on patients that another host erased", counted(gone, "piece"))
            for patient in erased_among(self._workspace, self._unfinished.patients()):
                self._unfinished.erase(patient)  # what it raises makes this be tried again
            self._digests.forget(erased_among(self._workspace, self._digests.patients()))
            self._erasures = erasures
        if version != self._version:
            remove_previews_of_the_gone(self._workspace)
            self._version = version
