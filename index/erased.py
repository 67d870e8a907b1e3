"""Whom a workspace must not take in again: keyed hashes, which tell nobody who it was."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from index.errors import DamagedData
from index.files import naming_a_full_disk, write_text_atomically
from index.objects import bucket
from index.workspace import Workspace

_KEY_BYTES = 32


def workspace_key(workspace: Workspace) -> bytes:
    """The secret of a workspace, made when it is first needed; only its owner may read it.

    Raises:
        DamagedData: it is not as it was made.
    """
    made = secrets.token_hex(_KEY_BYTES).encode()
    if workspace.bucket:
        place = bucket(workspace.bucket)
        text = place.read(workspace.key.name)
        if text is None:
            place.create(workspace.key.name, made)
            text = place.read(workspace.key.name) or b""
    else:
        if not workspace.key.exists():
            _create(workspace.key, made)
        text = workspace.key.read_bytes()
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise DamagedData("the workspace's key is damaged: bring the file `key` back from a backup")
    return key


@naming_a_full_disk()
def _create(path: Path, data: bytes) -> None:
    """A file for its owner alone, unless there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # whoever comes second takes the first one's
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def patient_hash(key: bytes, patient_id: str) -> str:
    """Keyed hash of a pseudonym."""
    return hmac.new(key, b"patient/" + patient_id.encode(), hashlib.sha256).hexdigest()


def erased_among(workspace: Workspace, patient_ids: set[str]) -> set[str]:
    """Those of these patients that were erased."""
    hashes = _hashes(workspace)
    if not hashes:
        return set()
    key = workspace_key(workspace)
    return {patient for patient in patient_ids if patient_hash(key, patient) in hashes}


def block(workspace: Workspace, patient: str) -> None:
    """From now on this patient, by hash, is not taken in.

    The caller holds `Store.writing`.
    """
    hashes = _hashes(workspace)
    if patient not in hashes:
        text = "".join(f"{one}\n" for one in sorted({*hashes, patient}))
        if workspace.bucket:
            bucket(workspace.bucket).write(workspace.erased.name, text.encode())
        else:
            write_text_atomically(workspace.erased, text)


def _hashes(workspace: Workspace) -> set[str]:
    if workspace.bucket:
        return set((bucket(workspace.bucket).read(workspace.erased.name) or b"").decode("ascii").split())
    try:
        return set(workspace.erased.read_text(encoding="ascii").split())
    except FileNotFoundError:
        return set()
