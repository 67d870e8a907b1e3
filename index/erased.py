"""Whom a workspace must not take in again: keyed hashes, which tell nobody who it was."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from index import shared_files
from index.errors import DamagedData
from index.workspace import Workspace

_KEY_BYTES = 32


def workspace_key(workspace: Workspace) -> bytes:
    """The secret of a workspace, made when it is first needed; only its owner may read it.

    Raises:
        DamagedData: it is not as it was made.
    """
    text = shared_files.read(workspace, workspace.key)
    if text is None:
        shared_files.create(workspace, workspace.key, secrets.token_hex(_KEY_BYTES).encode())
        text = shared_files.read(workspace, workspace.key) or b""
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
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
        shared_files.write(workspace, workspace.erased, "".join(f"{one}\n" for one in sorted({*hashes, patient})))


def _hashes(workspace: Workspace) -> set[str]:
    return set((shared_files.read(workspace, workspace.erased) or b"").decode("ascii").split())
