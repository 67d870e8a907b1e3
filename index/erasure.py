"""A patient's right to be forgotten: out of every answer at once, out of every file before it ends, with a receipt.

The order makes it safe to be killed anywhere: what is still to be done, and what must not be found then, stands in a
note without the patient's id; each step may be done twice; the note goes when all is done. Rows go first (from that
moment no search finds them), then the bytes: LanceDB keeps deleted rows in its files until these are rewritten and
every older version is removed.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from index import shared_files
from index.clip_table import ClipTable
from index.erased import block, patient_hash, workspace_key
from index.errors import DamagedData, InvalidInput, NotFound, SemiomeError
from index.feedback import FeedbackStore
from index.files import naming_a_full_disk, sync_folder, write_atomically
from index.generation import (
    build_generation,
    building_lock,
    list_generations,
    read_clips,
    read_manifest,
    remove_unfinished,
)
from index.objects import bucket
from index.rows import select
from index.scan import LEAST_NEEDLE_BYTES, SCRATCH, scan
from index.schema import id_predicate, vectors_of
from index.sharing import fetch, release, remove
from index.store import Store
from index.upkeep import compact
from index.workspace import Workspace, current

_SCANNED_ROWS = 16
"""So many of the patient's clips and vectors are looked for afterwards; those of one file go or stay together."""
_SCANNED_VALUES = 16
_PICTURES = frozenset({".png", ".jpg", ".mp4", ".u8", ".npy", ".npz"})
_TEXTS = frozenset({".json", ".jsonl", ".html", ".txt", ".toml", ".tsv", ".tmp"})


@dataclass(slots=True)
class _Pending:
    """What an erasure under way must not forget.

    Attributes:
        patient_hash: keyed.
        patient_key: random.
        started_at: UTC, ISO 8601.
        video_ids: theirs; once the rows are gone nothing else tells.
        needles: bytes that must be nowhere afterwards, in hex.
        places: what has been done.
    """

    patient_hash: str
    patient_key: str
    started_at: str
    video_ids: list[str] = field(default_factory=list)
    needles: list[str] = field(default_factory=list)
    places: list[dict[str, Any]] = field(default_factory=list)


@naming_a_full_disk()
def erase_patient(
    workspace: Workspace,
    patient_id: str,
    also: Iterable[Path] = (),
    say: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Erase a patient, or finish an erasure that was interrupted.

    Args:
        workspace: from where.
        patient_id: the manifest's.
        also: folders outside the workspace, such as frame caches, to search for the patient too.
        say: told each step.

    Returns:
        The receipt, as it was written.

    Raises:
        NotFound: nothing of this patient is stored, and no erasure of them is under way.
        Locked: somebody is committing or building: try again when they are done.
        DiskFull: it goes on when it is called again.
    """
    if not patient_id:
        raise InvalidInput("expected a patient id, got none")
    store, key = Store(workspace), workspace_key(workspace)
    hashed = patient_hash(key, patient_id)
    note = _Note(workspace, f".pending-{hashed[:16]}.json")
    with store.writing() as still_mine:
        for left in workspace.root.glob(f"{SCRATCH}*"):
            shutil.rmtree(left)
        pending = note.read() or _begin(store, patient_id, hashed)
        videos = {video.video_id for video in store.videos().values() if video.patient_id == patient_id}
        pending.video_ids = sorted({*pending.video_ids, *videos})
        found = {needle.hex() for needle in _needles(store, patient_id, pending.patient_key)}
        pending.needles = sorted({*pending.needles, *found})
        note.write(pending)
        still_mine()
        block(workspace, hashed)
        say("removing rows")
        _remove_rows(store, pending, still_mine)
        say("rewriting the store's files")
        compact(store, still_mine, keep_versions=timedelta(0), deletions=True)
        _done(pending, note, "store", "rows deleted, files rewritten, older versions removed")
        if removed := FeedbackStore(workspace).erase(patient_id, pending.video_ids):
            _done(pending, note, "feedback.sqlite", f"{removed} rows removed")
        say("rebuilding the index")
        _rebuild(store, workspace, patient_id, pending, note)
        say("searching what jobs have left")
        names = {*pending.video_ids, patient_id}
        for folder in (workspace.runs, workspace.previews, *also):
            for path, action in _cleaned(folder, names):
                place = str(path.relative_to(workspace.root)) if path.is_relative_to(workspace.root) else path.name
                for name in names:
                    place = place.replace(name, "(theirs)")
                _done(pending, note, place, action)
    say("looking for what is left")
    shared = bucket(workspace.bucket) if workspace.bucket else None
    needles = [bytes.fromhex(needle) for needle in pending.needles]
    looked = scan([workspace.root, *also], needles, skip=note.places, objects=shared)
    receipt = _signed(
        key,
        {
            "patient_hash": hashed,
            "started_at": pending.started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "places": pending.places,
            "scan": asdict(looked),
            "id_scanned_for": len(patient_id.encode()) >= LEAST_NEEDLE_BYTES,
            "not_covered": "weights trained on this patient, backups, copies outside the workspace, and, of a shared "
            "one, the folders of other hosts until their servers start again",
        },
    )
    if looked.files_with_finds:
        raise DamagedData(
            f"{len(looked.files_with_finds)} files of the workspace still hold something of the patient: "
            f"{', '.join(looked.files_with_finds[:3])}; run the same command again"
        )
    name = f"{receipt['finished_at'].replace(':', '')}-{secrets.token_hex(4)}.json"
    shared_files.write(workspace, workspace.erasures / name, json.dumps(receipt, indent=2) + "\n")
    note.remove()
    return receipt


def check_receipt(workspace: Workspace, receipt: dict[str, Any]) -> bool:
    """Whether a receipt was written by this workspace and is unchanged."""
    values = {name: value for name, value in receipt.items() if name != "signature"}
    return hmac.compare_digest(str(receipt.get("signature")), _signed(workspace_key(workspace), values)["signature"])


def unfinished(workspace: Workspace) -> list[str]:
    """When each erasure that was interrupted began."""
    names = [name for name in shared_files.names(workspace, workspace.erasures) if name.startswith(".pending-")]
    notes = (_Note(workspace, name).read() for name in names if name.endswith(".json"))
    return [note.started_at for note in notes if note is not None]


class _Note:
    """Where an erasure under way stands, for whoever goes on with it."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self._path = workspace.erasures / name
        self.places = {self._path, self._path.relative_to(workspace.root)}

    def read(self) -> _Pending | None:
        data = shared_files.read(self._workspace, self._path)
        try:
            return None if data is None else _Pending(**json.loads(data))
        except (ValueError, TypeError):
            raise DamagedData(f"{self._path.name} can't be read: remove it, and erase the patient again") from None

    def write(self, pending: _Pending) -> None:
        shared_files.write(self._workspace, self._path, json.dumps(asdict(pending)))

    def remove(self) -> None:
        shared_files.remove(self._workspace, self._path)


def _begin(store: Store, patient_id: str, hashed: str) -> _Pending:
    keys = {}
    if "patients" in store.table_names():
        keys = {row["patient_id"]: row["patient_key"] for row in select(store.open_table("patients"), None).to_pylist()}
    if patient_id not in keys:
        raise NotFound("nothing of this patient is stored here: check the id")
    return _Pending(hashed, keys[patient_id], datetime.now(UTC).isoformat(timespec="seconds"))


def _done(pending: _Pending, note: _Note, place: str, action: str) -> None:
    entry = {"place": place, "action": action}
    if entry not in pending.places:
        pending.places.append(entry)
        note.write(pending)


def _needles(store: Store, patient_id: str, patient_key: str) -> list[bytes]:
    """Bytes that must be nowhere afterwards."""
    needles = [patient_key.encode()]
    if len(patient_id.encode()) >= LEAST_NEEDLE_BYTES:
        needles.append(patient_id.encode())
    for encoder_id in store.encoder_ids():
        table = store.clip_table(encoder_id)
        rows = select(table, ["clip_id", "vector"], id_predicate("patient_key", [patient_key]))
        step = max(rows.num_rows // _SCANNED_ROWS, 1)
        needles += [clip_id.encode() for clip_id in rows.column("clip_id").to_pylist()[::step]]
        if rows.num_rows:
            needles += [vector[:_SCANNED_VALUES].tobytes() for vector in vectors_of(rows)[::step]]
    return needles


def _remove_rows(store: Store, pending: _Pending, still_mine: Callable[[], None]) -> None:
    predicate = id_predicate("patient_key", [pending.patient_key])
    videos = set(pending.video_ids)
    for name in store.table_names():
        table = store.open_table(name)
        if table.count_rows(predicate):
            still_mine()
            store.writable(name).delete(predicate)
        if name.startswith("clips_"):
            rows = select(store.open_table(name), ["clip_id", "video_id"])
            pairs = zip(rows.column("clip_id").to_pylist(), rows.column("video_id").to_pylist(), strict=True)
            if left := [clip for clip, video in pairs if video in videos]:
                still_mine()
                store.writable(name).delete(id_predicate("clip_id", left))


def _rebuild(store: Store, workspace: Workspace, patient_id: str, pending: _Pending, note: _Note) -> None:
    """Replace the generation that serves if it holds the patient, and remove all that do."""
    fetch(workspace, everything=True)
    folder = workspace.generations
    if not folder.is_dir():
        return
    with building_lock(folder):
        remove_unfinished(folder)
    videos = set(pending.video_ids)
    holding = [name for name in list_generations(folder) if _holds(folder, name, patient_id, videos)]
    serving = _serving(folder)
    if serving in holding:
        manifest = read_manifest(folder, serving)
        stored = store.clips(manifest.encoder_id)
        if len(stored.clips):
            kind, target = manifest.index, manifest.recall_target
            built = build_generation(stored, folder, kind=kind, recall_target=target).generation
            release(workspace, built, publish_it=True, force=True)
            _done(pending, note, f"generations/{built}", "built without the patient, published")
    remove(workspace, holding)
    for name in holding:
        _done(pending, note, f"generations/{name}", "removed")


def _serving(folder: Path) -> str:
    try:
        return current(folder) or ""
    except SemiomeError:
        return ""


def _holds(folder: Path, name: str, patient_id: str, video_ids: set[str]) -> bool:
    """Whether a generation holds the patient; one that can't be read might."""
    try:
        clips: ClipTable = read_clips(folder, name)
    except (SemiomeError, OSError, ValueError):
        return True
    return patient_id in clips.patient_ids or not video_ids.isdisjoint(clips.video_ids)


def _cleaned(folder: Path, names: set[str]) -> Iterator[tuple[Path, str]]:
    """Take the patient out of what jobs have left: rows out of tables, everything else as a whole."""
    if not folder.is_dir():
        return
    for inner in (folder, *sorted(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
        if not inner.is_dir():
            continue  # it went with its parent
        tables = [path for path in inner.iterdir() if path.suffix == ".csv"]
        others = [path for path in inner.iterdir() if path.is_file() and path.suffix != ".csv"]
        mentioning = [path for path in others if _mentions(path, names)]
        named = bool(mentioning)
        for path in tables:
            if removed := _drop_rows(path, names):
                named = True
                yield path, f"{removed} rows removed"
        # Pictures and frames say nothing of whose they are; what lies beside them does.
        pictures = [path for path in others if named and path.suffix in _PICTURES and path not in mentioning]
        for path in (*mentioning, *pictures):
            path.unlink()
            yield path, "removed"
        unfinished = {f".{name}{end}" for name in names for end in (".tmp", ".lock")}  # as a kill leaves a new folder
        for path in [path for path in inner.iterdir() if path.name in names | unfinished]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            yield path, "removed"
        sync_folder(inner)


def _mentions(path: Path, names: set[str]) -> bool:
    if path.stem in names:
        return True
    if path.suffix not in _TEXTS:
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    whole_name = "|".join(map(re.escape, names))
    return re.search(rf"(?<![\w.-])({whole_name})(?![\w.-])", text) is not None


def _drop_rows(path: Path, names: set[str]) -> int:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    kept = [row for row in rows if names.isdisjoint(row)]
    if len(kept) < len(rows):

        def write(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows(kept)

        write_atomically(path, write)
    return len(rows) - len(kept)


def _signed(key: bytes, values: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(values, sort_keys=True).encode()
    return {**values, "signature": hmac.new(key, b"receipt/" + text, hashlib.sha256).hexdigest()}
