"""The blocklist of erased patients: keyed hashes, which do not say who they were.

It is enforced where clips are stored (`index.tables.committer`, `encoder.job.storing`), where rows are read
(`index.tables.store`), and where a server answers (`index.search.loader`, `service.gate.middleware`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from index.errors import CannotWrite, DamagedData, InvalidInput
from index.near_misses import likeness
from index.workspace import ERASED, ERASURES, KEY, Workspace

_KEY_BYTES = 32
_LIFTED = "-"
"""Before the hash of a patient who was erased and may be taken in again."""
_ALIKE = "~"
"""Before the hash of what ids that look like an erased one have in common."""
_GONE = "the list of the erased is gone: bring the file `erased` back from a backup"
_LINE = re.compile(f"[{_LIFTED}{_ALIKE}]?[0-9a-f]{{64}}")


def workspace_key(workspace: Workspace) -> bytes:
    """The secret of a workspace, made when it is first needed; only its owner may read it.

    Raises:
        DamagedData: If it is not as it was made, or is gone where it was used.
    """
    text = workspace.place.read(KEY)
    if text is None:
        if has_erased(workspace):
            raise DamagedData(
                "the workspace's key is gone, and who was erased can't be told without it: "
                "bring the file `key` back from a backup"
            )
        workspace.place.create(KEY, secrets.token_hex(_KEY_BYTES).encode())
        text = workspace.place.read(KEY) or b""
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise DamagedData("the workspace's key is damaged: bring the file `key` back from a backup")
    return key


def has_erased(workspace: Workspace) -> bool:
    """Whether a receipt or the list says that a patient was erased."""
    return _receipts(workspace) or bool(workspace.place.read(ERASED))


def key_to_compare(workspace: Workspace) -> bytes:
    """The secret of a workspace; where there is none yet and none can be written, one that nothing was hashed with.

    Raises:
        DamagedData: If it is not as it was made.
    """
    try:
        return workspace_key(workspace)
    except CannotWrite:
        return secrets.token_bytes(_KEY_BYTES)


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


def is_erased(workspace: Workspace, patient: str) -> bool:
    """Whether the patient of this hash is on the list."""
    return patient in _hashes(workspace)


class ErasedList:
    """The list as a server follows it, which must never give answers from before an erasure.

    Attributes:
        hashes: of whom nothing may be answered.
    """

    def __init__(self, workspace: Workspace) -> None:
        """Read the list.

        Raises:
            DamagedData: If it is not one.
        """
        self._workspace = workspace
        self._seen: object = None
        self._there = False
        self.hashes: frozenset[str] = frozenset()
        self.read()

    def is_new(self) -> bool:
        """Whether the file is another one than was read, by its stamp; on object storage always False."""
        return self.facts() != self._seen

    def read(self) -> bool:
        """Read it again.

        Returns:
            Whether it says something else.

        Raises:
            DamagedData: If it is no such list, or is gone; the old one stays.
        """
        seen = self.facts()
        data = _read(self._workspace)
        if data is None and self._there:
            raise DamagedData(_GONE)
        lines = _checked(data or b"")
        if any(line not in lines and _LIFTED + line not in lines for line in self.hashes):
            raise DamagedData("the list of the erased lacks some whom it named: bring `erased` back from a backup")
        hashes = frozenset(_as_hashes(lines))
        different = hashes != self.hashes
        self.hashes, self._there, self._seen = hashes, data is not None, seen
        return different

    def withheld(self, patient_ids: Iterable[str]) -> frozenset[str]:
        """Those of these patients of whom nothing may be answered."""
        if not self.hashes:
            return frozenset()
        key = workspace_key(self._workspace)
        return frozenset(patient for patient in patient_ids if patient_hash(key, patient) in self.hashes)

    def facts(self) -> object:
        """What tells one file from another, see `Place.stamp`."""
        return self._workspace.place.stamp(ERASED)


def block(workspace: Workspace, patient_id: str) -> None:
    """Refuse this patient from now on, and ask about ids that look like a misspelling of theirs.

    The caller holds `Place.changing` of the list.
    """
    lines, (own, alike) = _lines(workspace), _hashed(workspace, patient_id)
    if not {own, alike} <= lines:
        _write(workspace, (lines - {_LIFTED + own}) | {own, alike})


def lift(workspace: Workspace, patient_id: str) -> None:
    """Let this patient be stored again from now on; the list remembers that they were erased.

    The caller holds `Place.changing` of the list.
    """
    own, alike = _hashed(workspace, patient_id)
    _write(workspace, (_lines(workspace) - {own, alike}) | {_LIFTED + own})


def alike_to_erased(workspace: Workspace, patient_ids: set[str]) -> set[str]:
    """Those of these patients whose ids look like misspellings of one that was erased."""
    lines = _lines(workspace)
    if not any(line.startswith(_ALIKE) for line in lines):
        return set()
    return {patient for patient in patient_ids if _hashed(workspace, patient)[1] in lines}


def _hashed(workspace: Workspace, patient_id: str) -> tuple[str, str]:
    """The list's line for an id, and the one for all that look like it."""
    key = workspace_key(workspace)
    alike = hmac.new(key, b"alike/" + "/".join(likeness(patient_id)).encode(), hashlib.sha256).hexdigest()
    return patient_hash(key, patient_id), _ALIKE + alike


def brought_up_to_date(older: str, newer: str) -> str:
    """A list of the erased with what a newer one of the same workspace says.

    Raises:
        InvalidInput: If one is not such a list, or the newer one lacks something of the older.
    """
    before, after = set(older.split()), set(newer.split())
    if wrong := [line for line in after if not _LINE.fullmatch(line)]:
        raise InvalidInput(f"expected a workspace's list of the erased, 64 hex digits a line, got {wrong[0][:16]!r}")
    named = [{line.removeprefix(_LIFTED) for line in lines if not line.startswith(_ALIKE)} for lines in (before, after)]
    if named[0] - named[1]:
        raise InvalidInput("this list of the erased lacks some of the backup's: it is older, or of another workspace")
    return "".join(f"{line}\n" for line in sorted(after))


def _write(workspace: Workspace, lines: set[str]) -> None:
    workspace.place.write(ERASED, "".join(f"{line}\n" for line in sorted(lines)).encode())


def _read(workspace: Workspace) -> bytes | None:
    """The list's file; None before the first erasure.

    Raises:
        DamagedData: If it is gone or can't be read.
    """
    data = workspace.place.read(ERASED)
    if not (data and data.strip()) and _receipts(workspace):
        raise DamagedData(_GONE)
    return data


def _receipts(workspace: Workspace) -> bool:
    """Whether anybody was erased: the receipt is written after the list."""
    return any(not name.startswith(".") for name in workspace.place.names(ERASURES))


def _hashes(workspace: Workspace) -> set[str]:
    return _as_hashes(_lines(workspace))


def _as_hashes(lines: set[str]) -> set[str]:
    return {line for line in lines if not line.startswith((_LIFTED, _ALIKE))}


def _lines(workspace: Workspace) -> set[str]:
    return _checked(_read(workspace) or b"")


def _checked(data: bytes) -> set[str]:
    """The lines of a list.

    Raises:
        DamagedData: If one is none.
    """
    lines = set(data.decode("ascii", "replace").split())
    if not all(map(_LINE.fullmatch, lines)):
        raise DamagedData("the list of the erased is damaged: bring the file `erased` back from a backup")
    return lines
