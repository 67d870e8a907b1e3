"""A copy of what can't be made again, that can be verified and brought back: tables, models, key, the erased, receipts.

Generations are not in it: they are built again from the tables. A backup is older than some erasures; a user who brings
it back must not bring those patients back, so the list of the erased is kept apart and given when it is restored.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from index.custody.doctor import DAMAGED, examine
from index.custody.erasure import erase_patient
from index.custody.erasure_note import unfinished
from index.errors import DamagedData, InvalidInput, StateError
from index.feedback.store import FeedbackStore, path_of
from index.files.durable import digest_of_file, new_folder, small_file, write_text_atomically
from index.tables.blocklist import brought_up_to_date, erased_among, workspace_key
from index.tables.store import Store
from index.workspace import Workspace

_MANIFEST, _CONTENT = "backup.json", "workspace"
_FORMAT = "semiome-backup-1"
_MOST_MANIFEST_BYTES, _MOST_ERASED_BYTES = 2**28, 2**27


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup says of itself.

    Attributes:
        format: of the backup.
        made_at: UTC, ISO 8601.
        clips: stored clips of each encoder.
        videos: number of videos.
        digests: of each file, see `index.files.durable.digest_of_file`.
    """

    format: str
    made_at: str
    clips: dict[str, int]
    videos: int
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest of the whole. Noted elsewhere, it shows later that nothing was exchanged, the key included."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def back_up(workspace: Workspace, folder: Path) -> Backup:
    """Copy a workspace into a new folder; no process writes meanwhile, and searches continue.

    Raises:
        InvalidInput: If the folder is there already.
        StateError: If nothing is stored, or the workspace is on object storage, which has its own copies.
        DamagedData: If something stored is not what was written.
        Locked: If another process is writing.
    """
    _plain(workspace)
    store = Store(workspace)
    with store.writing(), new_folder(folder) as building:
        if not store.exists():
            raise StateError("nothing is stored in this workspace yet: there is nothing to back up")
        if unfinished(workspace):
            raise StateError("an erasure was interrupted: finish it with `semiome erase`, then make the backup")
        workspace_key(workspace)  # made now if it never was: what is erased later is hashed with it
        kept = (workspace.store, workspace.encoders, workspace.heads, workspace.signs, workspace.erasures)
        if odd := [path for folder in kept for path in folder.rglob("*") if not (path.is_dir() or path.is_file())]:
            raise DamagedData(f"{odd[0].name} is no plain file: move it away, and look at it")
        clips = {encoder_id: store.check(encoder_id) for encoder_id in store.encoder_ids()}
        for path in kept:
            if path.is_dir():
                shutil.copytree(path, building / _CONTENT / path.relative_to(workspace.root))
        FeedbackStore(workspace).copy_to(building / _CONTENT / path_of(workspace).name)
        for path in (workspace.key, workspace.erased, workspace.classes):
            if path.exists():
                shutil.copy2(path, building / _CONTENT / path.name)
        files = sorted(path for path in (building / _CONTENT).rglob("*") if path.is_file())
        digests = {str(path.relative_to(building)): digest_of_file(path) for path in files}
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        backup = Backup(_FORMAT, made_at, clips, len(store.videos()), digests)
        (building / _MANIFEST).write_text(json.dumps(asdict(backup), indent=2) + "\n", encoding="utf-8")
    return backup


def verify(folder: Path, noted: str = "") -> Backup:
    """Check every file of a backup, and every row in it.

    Args:
        folder: the backup.
        noted: the backup's digest as it was noted elsewhere; empty where none was.

    Raises:
        InvalidInput: If it is no backup.
        DamagedData: If a file is missing, more, a link, or not what was copied, or a row is not what was written; or
            the backup is another one than was noted.
    """
    try:
        backup = Backup(**json.loads(small_file(folder / _MANIFEST, _MOST_MANIFEST_BYTES)))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"expected a backup with a {_MANIFEST} ({type(error).__name__})") from None
    if backup.format != _FORMAT:
        raise InvalidInput("this backup was made by another version of Semiome")
    if noted and not hmac.compare_digest(noted.strip().lower(), backup.digest):
        raise DamagedData("this backup has another digest than the one noted: it was changed, or is another backup")
    if links := [path for path in [folder, *folder.rglob("*")] if path.is_symlink() or not _is_plain(path)]:
        raise DamagedData(f"{links[0].name} of the backup is a link or no plain file: what it names may be anything")
    there = {str(path.relative_to(folder)) for path in (folder / _CONTENT).rglob("*") if path.is_file()}
    for name in sorted(backup.digests.keys() | there):
        if name not in there or digest_of_file(folder / name) != backup.digests.get(name):
            raise DamagedData(f"{Path(name).name} of the backup is missing, new or not what was copied")
    store = Store(Workspace(folder / _CONTENT))
    clips = {encoder_id: store.check(encoder_id) for encoder_id in store.encoder_ids()}
    if (clips, len(store.videos())) != (backup.clips, backup.videos):
        raise DamagedData("the tables of the backup do not hold what was copied")
    return backup


def _is_plain(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_nlink == 1)


def restore(
    folder: Path,
    workspace: Workspace,
    erased: Path | None = None,
    say: Callable[[str], None] = lambda step: None,
    noted: str = "",
) -> tuple[Backup, int]:
    """Bring a backup back as a new workspace, without the patients that were erased since; the index is built after it.

    Args:
        folder: the backup.
        workspace: not there yet, or empty.
        erased: the file `erased` of the workspace that was lost, if it is younger than the backup.
        say: called with each step in words.
        noted: the digest noted earlier, see `verify`.

    Returns:
        The backup, and how many patients were erased again.

    Raises:
        InvalidInput: If the workspace is there already, no backup is, or the list is none of this workspace.
        DamagedData: If the backup is not whole.
    """
    _plain(workspace)
    say("checking the backup")
    backup = verify(folder, noted)
    say("copying it back")
    with new_folder(workspace.root) as building:
        shutil.copytree(folder / _CONTENT, building, dirs_exist_ok=True)
        restored = Workspace(building)
        if restored.key.exists():
            restored.key.chmod(0o600)
        if erased is not None:
            _bring_up_to_date(restored, erased)
        again = erased_among(restored, Store(restored).patients())
        for patient_id in sorted(again):
            say("erasing a patient who was erased since")
            erase_patient(restored, patient_id)
        if damaged := [finding for finding in examine(restored) if finding.state == DAMAGED]:
            raise DamagedData(f"what was brought back is not whole: {damaged[0].says}")
    return backup, len(again)


def _bring_up_to_date(workspace: Workspace, erased: Path) -> None:
    older = workspace.erased.read_text(encoding="ascii") if workspace.erased.exists() else ""
    try:
        newer = small_file(erased, _MOST_ERASED_BYTES).decode("ascii", "replace")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the list of the erased can't be read ({type(error).__name__})") from None
    write_text_atomically(workspace.erased, brought_up_to_date(older, newer))


def _plain(workspace: Workspace) -> None:
    if workspace.bucket:
        raise StateError(
            "a workspace on object storage is backed up by the storage itself, with a replicated or versioned bucket; "
            "copy it into a folder first to make a backup of it"
        )
