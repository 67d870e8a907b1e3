"""Whom a workspace must not take in again: keyed hashes, which tell nobody who it was."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from index.errors import DamagedData
from index.files import write_text_atomically
from index.workspace import Workspace

_KEY_BYTES = 32


def workspace_key(workspace: Workspace) -> bytes:
    """The secret of a workspace, made when it is first needed; only its owner may read it.

    Raises:
        DamagedData: it is not as it was made.
    """
    path = workspace.key
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_hex(_KEY_BYTES).encode())
            stream.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)  # whoever comes second takes the first one's
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise DamagedData("the workspace's key is damaged: bring the file `key` back from a backup")
    return key


def patient_hash(key: bytes, patient_id: str) -> str:
    """Keyed hash of a pseudonym."""
    return hmac.new(key, b"patient/" + patient_id.encode(), hashlib.sha256).hexdigest()


def erased_among(workspace: Workspace, patient_ids: set[str]) -> set[str]:
    """Those of these patients that were erased."""
    hashes = _hashes(workspace.erased)
    if not hashes:
        return set()
    key = workspace_key(workspace)
    return {patient for patient in patient_ids if patient_hash(key, patient) in hashes}


def block(workspace: Workspace, patient: str) -> None:
    """From now on this patient, by hash, is not taken in.

    The caller holds `Store.writing`.
    """
    hashes = _hashes(workspace.erased)
    if patient not in hashes:
        write_text_atomically(workspace.erased, "".join(f"{one}\n" for one in sorted({*hashes, patient})))


def _hashes(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="ascii").split())
    except FileNotFoundError:
        return set()
