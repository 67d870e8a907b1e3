"""A patient's right to be forgotten: out of every answer at once, out of every file before it ends, with a receipt.

The order makes it safe to be killed anywhere: what is still to be done, and what must not be found then, stands in a
note without the patient's id; each step may be done twice; the note goes when all is done. Rows go first (from that
moment no search finds them), then the bytes: LanceDB keeps deleted rows in its files until these are rewritten and
every older version is removed. What names the patient in texts and what is searched for afterwards are decided by the
same function, `index.traces.folders.traces`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from index.custody.erasure_note import Done, Pending, note_of
from index.custody.receipts import signed, write_receipt
from index.custody.removal import rebuild_without, remove_patient
from index.errors import DamagedData, InvalidInput, Locked, NotFound, StateError
from index.feedback.store import FeedbackStore
from index.files.failures import naming_failed_writes
from index.files.side_file import remove_side_file
from index.tables.blocklist import block, is_erased, lift, patient_hash, workspace_key
from index.tables.compaction import compact
from index.tables.rows import select
from index.tables.schema import id_predicate
from index.tables.store import Store
from index.tables.unfinished import Unfinished
from index.traces.folders import DOUBTFUL, GOES, LEFT, NOT_LOOKED_INTO, Trace
from index.traces.names import Names
from index.traces.needles import needles_of, without_shared
from index.traces.places import gone_through, outside_of, piece_of, shown
from index.traces.scan import SCRATCH, scan
from index.words import counted
from index.workspace import ERASED, Workspace


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an erasure would do.

    Attributes:
        videos: how many are theirs.
        clips: rows of whatever encoder.
        feedback: rows that go, notes that are blanked, notes that may name them.
        traces: what names them in files.
    """

    videos: int
    clips: int
    feedback: tuple[int, int, int]
    traces: tuple[Trace, ...]


def forecast(workspace: Workspace, patient_id: str, also: Iterable[Path] = ()) -> Forecast:
    """What `erase_patient` would remove, and what it would ask about; nothing is changed.

    Raises:
        NotFound: If nothing of this patient is stored, and they were not erased before.
    """
    store = _existing(workspace)
    pending = note_of(workspace, patient_id).read() or _begin(store, workspace, patient_id)
    own, names, sources = _names(store, patient_id, pending)
    clips = 0
    for encoder_id in store.encoder_ids() if pending.patient_key else ():
        clips += store.clip_table(encoder_id).count_rows(id_predicate("patient_key", [pending.patient_key]))
    said = FeedbackStore(workspace).erase(patient_id, own, names, change=False)
    folders = outside_of(workspace, [*also, *map(Path, pending.also)])
    traces = tuple(gone_through(workspace, folders, names, sources, texts=None, change=False))
    return Forecast(len(own), clips, said, traces)


@naming_failed_writes()
def erase_patient(
    workspace: Workspace,
    patient_id: str,
    also: Iterable[Path] = (),
    say: Callable[[str], None] = lambda step: None,
    *,
    texts: bool | None = None,
) -> dict[str, Any]:
    """Erase a patient, finish an erasure that was interrupted, or look again for one who was erased before.

    From the first moment nothing of them is answered or taken in, whatever else is being written.

    Args:
        workspace: to erase from.
        patient_id: as in the manifest.
        also: folders outside the workspace, such as frame caches, to search for the patient too.
        say: called with each step in words.
        texts: what becomes of texts in which an id stands that may mean something else, such as a plain number: True,
            they go; False, they are not about the patient; None, they stay and the receipt lists them as undecided.

    Returns:
        The receipt, as it was written; its `complete` says whether anything was left or is undecided.

    Raises:
        NotFound: If nothing of this patient is stored, and they were not erased before.
        Locked: If another process is committing or building: called again after that, it resumes.
        DiskFull: If there is no room; called again, it resumes.
        DamagedData: If something of the patient is still in the workspace's files: run it again.
    """
    if not patient_id:
        raise InvalidInput("expected a patient id, got none")
    Unfinished(workspace).erase(patient_id)  # of whom nothing else may be stored
    kept_digests = workspace.digests.is_file()
    remove_side_file(workspace.digests)
    store, key = _existing(workspace), workspace_key(workspace)
    hashed = patient_hash(key, patient_id)
    note = note_of(workspace, patient_id)
    withhold(workspace, patient_id)
    with _writing(store) as still_mine:
        for scratch in workspace.root.glob(f"{SCRATCH}*"):
            shutil.rmtree(scratch)
        pending = note.read() or _begin(store, workspace, patient_id)
        also = outside_of(workspace, [*also, *map(Path, pending.also)])
        own, names, sources = _names(store, patient_id, pending)
        pending.video_ids, pending.sources, pending.also = sorted(own), sorted(sources), [str(one) for one in also]
        if pending.patient_key:
            found = {needle.hex() for needle in needles_of(store, pending.patient_key)}
            pending.needles = sorted({*pending.needles, *found})
        note.write(pending)
        still_mine()
        if pending.patient_key:
            say("removing rows")
            remove_patient(store, pending.patient_key, own, still_mine)
        say("rewriting the store's files")
        compact(store, still_mine, keep_versions=timedelta(0), deletions=True)
        done = Done(pending, note)
        done("store", "rows deleted, files rewritten, older versions removed")
        if workspace.unfinished.is_file():
            remove_side_file(workspace.unfinished)
            done(workspace.unfinished.name, "removed")
        if kept_digests or workspace.digests.is_file():  # another job may have begun it again
            remove_side_file(workspace.digests)
            done(workspace.digests.name, "removed")
        rows, notes, _ = FeedbackStore(workspace).erase(patient_id, own, names, doubtful=texts is True)
        if rows or notes:
            done("feedback.sqlite", f"{counted(rows, 'row')} removed, {counted(notes, 'note')} blanked")
        say("rebuilding the index")
        rebuild_without(store, workspace, {patient_id}, own, done)
        say("searching what jobs have left")
        # What only rows, links or folders give away is written down before any of these is changed.
        waiting = frozenset(map(Path, pending.inferred))
        first = list(gone_through(workspace, also, names, sources, texts=None, change=False, waiting=waiting))
        told = {str(trace.path.resolve()) for trace in first if trace.inferred}
        pending.inferred = sorted({*pending.inferred, *told})
        note.write(pending)
        waiting = _answered(pending, texts, lambda path: done(shown(path, workspace, also, names), "removed: a film"))
        for trace in gone_through(workspace, also, names, sources, texts=texts, change=True, waiting=waiting):
            if trace.kind == GOES:
                done(shown(trace.path, workspace, also, names), trace.action)
        say("looking for what is left")
        said = FeedbackStore(workspace).erase(patient_id, own, names, doubtful=texts is True, change=False)
        again = list(gone_through(workspace, also, names, sources, texts=texts, change=False, waiting=waiting))
        if any(said[:2]) or any(trace.kind == GOES for trace in again):
            raise DamagedData("something of the patient was written while they were erased: run the same command again")
        needles = [bytes.fromhex(needle) for needle in pending.needles]
        searched = without_shared(store, needles)
    shared = workspace.place if workspace.place.remote else None
    looked = scan([workspace.root], searched, skip=note.places, objects=shared)
    elsewhere = [scan([folder], searched, below=workspace.root) for folder in also]
    outside = {
        shown(piece_of(folder, name), workspace, also, names)
        for folder, found_there in zip(also, elsewhere, strict=True)
        for name in found_there.files_with_finds
    }
    if looked.files_with_finds:
        raise DamagedData(
            f"{len(looked.files_with_finds)} files of the workspace still hold something of the patient: "
            f"{', '.join(looked.files_with_finds[:3])}; run the same command again"
        )
    of = {kind: [trace for trace in again if trace.kind == kind] for kind in (DOUBTFUL, LEFT, NOT_LOOKED_INTO)}
    open_questions = [] if texts is False else [*(trace.path for trace in of[DOUBTFUL]), *sorted(waiting)]
    undecided = list(dict.fromkeys(shown(path, workspace, also, names) for path in open_questions))
    if said[2] and texts is None:
        undecided.append("feedback.sqlite")
    of[LEFT] += [trace for trace in first if trace.kind == LEFT and trace.path.exists()]  # where a link led, too
    left = sorted({*(shown(trace.path, workspace, also, names) for trace in of[LEFT]), *outside})
    receipt = signed(
        key,
        {
            "patient_hash": hashed,
            "started_at": pending.started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": not (undecided or left),
            "places": pending.places,
            "undecided": undecided,
            "doubtful_texts": {True: "removed", False: "said to be about something else", None: "listed"}[texts],
            "left": left,
            "not_looked_into": [shown(trace.path, workspace, also, names) for trace in of[NOT_LOOKED_INTO]],
            "scan": {
                "needles": len(set(searched)),
                "shared_with_others": len(set(needles)) - len(set(searched)),
                "files": looked.files + sum(one.files for one in elsewhere),
                "size_bytes": looked.size_bytes + sum(one.size_bytes for one in elsewhere),
                "files_with_finds": looked.files_with_finds,
            },
            "not_covered": "weights trained on this patient, backups, copies outside the workspace, ids of fewer than "
            "6 characters within pictures and films, and, of a workspace on object storage, what other hosts keep in "
            "$SEMIOME_LOCAL: a server removes previews, feedback and copies of indexes there in seconds, or once it "
            "starts, and it or `semiome encode` clips of unfinished videos; for runs/, and for notes that spell the id "
            "otherwise, run the same command on each host",
        },
    )
    write_receipt(workspace, receipt, receipt["finished_at"])
    if undecided:
        pending.asking = True
        note.write(pending)
    else:
        note.remove()
    return receipt


@naming_failed_writes()
def withhold(workspace: Workspace, patient_id: str) -> None:
    """The first step of an erasure, which waits for nothing: nothing of the patient is answered or taken in any more.

    What it writes down says that the rest is still to be done.

    Raises:
        NotFound: If nothing of this patient is stored, and they were not erased before.
        Locked: If another process has been changing the list of the erased for too long.
        DiskFull: If there is no room.
    """
    store, note = _existing(workspace), note_of(workspace, patient_id)
    with workspace.place.changing(ERASED):
        try:
            if note.read() is None:
                note.write(_begin(store, workspace, patient_id))
        except NotFound:
            raise
        except Exception:  # a damaged table, say: whatever else can't be done, they are answered no more
            block(workspace, patient_id)
            raise
        block(workspace, patient_id)


def lift_erasure(workspace: Workspace, patient_id: str, reason: str) -> dict[str, Any]:
    """Let a patient be taken in again whose erasure was a mistake, or who has given consent again.

    What was erased does not come back.

    Returns:
        The signed record, as it was written beside the receipts.

    Raises:
        InvalidInput: If there is no reason.
        NotFound: If the patient was not erased.
        StateError: If the erasure has not ended.
    """
    if not reason.strip() or len(reason) > 1000 or not reason.isprintable():
        raise InvalidInput("expected a reason of 1 to 1000 printable characters")
    store, key = _existing(workspace), workspace_key(workspace)
    hashed = patient_hash(key, patient_id)
    with store.writing(), workspace.place.changing(ERASED):
        if note_of(workspace, patient_id).read() is not None:
            raise StateError("the erasure of this patient has not ended: finish it with `semiome erase` first")
        if not is_erased(workspace, hashed):
            raise NotFound("this patient is not on the list of the erased: check the id")
        at = datetime.now(UTC).isoformat(timespec="seconds")
        said = Names({patient_id})
        record = {"patient_hash": hashed, "lifted_at": at, "reason": said.cut(reason, said.find(reason))}
        lifted = signed(key, record)
        write_receipt(workspace, lifted, at, "-lifted")
        lift(workspace, patient_id)
    return lifted


def _begin(store: Store, workspace: Workspace, patient_id: str) -> Pending:
    keys = {}
    if "patients" in store.table_names():
        keys = {row["patient_id"]: row["patient_key"] for row in select(store.open_table("patients"), None).to_pylist()}
    hashed = patient_hash(workspace_key(workspace), patient_id)
    if patient_id not in keys and not is_erased(workspace, hashed):
        raise NotFound("nothing of this patient is stored here: check the id")
    return Pending(hashed, keys.get(patient_id, ""), datetime.now(UTC).isoformat(timespec="seconds"))


def _answered(pending: Pending, texts: bool | None, removed: Callable[[Path], None]) -> frozenset[Path]:
    """Films that may be theirs by what stood around them: removed if people say so; those that wait for an answer."""
    there = frozenset(path for path in map(Path, pending.inferred) if path.is_file())
    for path in sorted(there) if texts else ():
        removed(path)
        path.unlink()
    if texts is not None:
        pending.inferred = []
    return there if texts is None else frozenset()


def _existing(workspace: Workspace) -> Store:
    """The store, where there is one: a mistyped workspace must not come to be."""
    store = Store(workspace)
    if not store.exists():
        raise NotFound("nothing is stored in this workspace: check its path")
    return store


def _names(store: Store, patient_id: str, pending: Pending) -> tuple[set[str], Names, frozenset[str]]:
    """The patient's videos, what they and all others are called, and digests of files that are theirs alone."""
    videos = store.videos()
    own = {*pending.video_ids, *(name for name, video in videos.items() if video.patient_id == patient_id)}
    others = {name: video for name, video in videos.items() if video.patient_id != patient_id}
    sources = {*pending.sources, *(video.source_sha256 for name, video in videos.items() if name in own)}
    names = Names({patient_id}, own, store.patients() - {patient_id}, others.keys() - own)
    return own, names, frozenset(sources - {video.source_sha256 for video in others.values()})


@contextmanager
def _writing(store: Store) -> Iterator[Callable[[], None]]:
    with ExitStack() as held:
        try:
            still_mine = held.enter_context(store.writing())
        except Locked as error:
            raise Locked(f"this patient no longer appears in any answer, but it is still stored: {error}") from None
        yield still_mine
