"""Removes rows and vectors from the store and from every index: a patient's, or those of a video stored by mistake."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from index.errors import ErasedMeanwhile, NotFound, SemiomeError
from index.feedback.store import FeedbackStore
from index.files.durable import sync_folder
from index.files.failures import naming_failed_writes
from index.files.side_file import remove_side_file
from index.tables.clip_table import ClipTable
from index.tables.compaction import compact
from index.tables.rows import select
from index.tables.schema import id_predicate
from index.tables.store import Store
from index.tables.unfinished import Unfinished
from index.vectors.generation import (
    GenerationManifest,
    build_generation,
    building_lock,
    list_generations,
    read_clips,
    read_manifest,
    remove_unfinished,
)
from index.vectors.publication import fetch, release, remove
from index.workspace import Workspace, current

Done = Callable[[str, str], None]
_TRIES = 5
"""Told a place, and what was done there."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove_videos` took out.

    Attributes:
        videos: number of videos.
        clips: rows of whatever encoder.
        patients: of whom no video is left.
        feedback: how much that people said of them.
        places: what was rewritten, built or removed.
    """

    videos: int
    clips: int
    patients: int
    feedback: int
    places: tuple[str, ...]


@naming_failed_writes()
def remove_videos(
    workspace: Workspace, video_ids: Collection[str], say: Callable[[str], None] = lambda step: None
) -> Removed:
    """Remove videos that were stored by mistake: rows, vectors, previews and feedback. They may be stored again.

    An interrupted call can be repeated: the videos' own rows go last.

    Raises:
        NotFound: If some of these videos are not stored; nothing is removed.
        Locked: If another process is writing to the store.
        DiskFull: If there is no room; called again, it resumes.
    """
    store, wanted = Store(workspace), set(video_ids)
    if not store.exists():
        raise NotFound("nothing is stored in this workspace: check its path")
    places: list[str] = []
    with store.writing() as still_mine:
        videos = store.videos()
        if missing := wanted - videos.keys():
            raise NotFound(f"not stored: {', '.join(sorted(missing)[:5])}; nothing is removed")
        left = {video.patient_id for name, video in videos.items() if name not in wanted}
        gone = {videos[name].patient_id for name in wanted} - left
        say("removing feedback")
        feedback = FeedbackStore(workspace).remove_videos(wanted)
        Unfinished(workspace).drop(wanted)
        remove_side_file(workspace.digests)
        for name in sorted(wanted):
            if (preview := workspace.previews / name).is_dir():
                shutil.rmtree(preview)
                sync_folder(workspace.previews)
        say("removing rows")
        keys = {row["patient_id"]: row["patient_key"] for row in select(store.open_table("patients"), None).to_pylist()}
        clips = remove_clips(store, wanted, still_mine)
        say("rebuilding the index")
        rebuild_without(
            store, workspace, frozenset(), wanted, lambda place, action: places.append(f"{place}: {action}")
        )
        # Last, so that a call that was interrupted finds by them what is left to do.
        still_mine()
        # The predicate names videos; it goes with the older versions.
        store.writable("videos").delete(id_predicate("video_id", sorted(wanted)))
        if left_keys := [keys[patient] for patient in sorted(gone) if patient in keys]:
            still_mine()
            store.writable("patients").delete(id_predicate("patient_key", left_keys))
        say("rewriting the store's files")
        compact(store, still_mine, keep_versions=timedelta(0), deletions=True)
    return Removed(len(wanted), clips, len(gone), feedback, tuple(places))


def remove_clips(store: Store, video_ids: Collection[str], still_mine: Callable[[], None]) -> int:
    """Delete the clips of these videos, of whatever encoder.

    Returns:
        How many there were.
    """
    count = 0
    for name in store.table_names():
        if not name.startswith("clips_"):
            continue
        rows = select(store.open_table(name), ["clip_id", "video_id"])
        pairs = zip(rows.column("clip_id").to_pylist(), rows.column("video_id").to_pylist(), strict=True)
        if left := [clip for clip, video in pairs if video in video_ids]:
            still_mine()
            store.writable(name).delete(id_predicate("clip_id", left))
            count += len(left)
    return count


def remove_patient(store: Store, patient_key: str, video_ids: Collection[str], still_mine: Callable[[], None]) -> None:
    """Delete every row of a patient from every table, and the clips of their videos, under whatever patient."""
    predicate = id_predicate("patient_key", [patient_key])
    for name in store.table_names():
        if store.open_table(name).count_rows(predicate):
            still_mine()
            with store.reached():
                store.writable(name).delete(predicate)
    remove_clips(store, video_ids, still_mine)


def rebuild_without(
    store: Store, workspace: Workspace, patients: Collection[str], videos: Collection[str], done: Done
) -> None:
    """Replace the generation that serves if it holds any of these, and remove all generations that do."""
    fetch(workspace, everything=True)
    folder = workspace.generations
    if not folder.is_dir():
        return
    with building_lock(folder):
        remove_unfinished(folder)
    holding = [name for name in list_generations(folder) if _holds(folder, name, patients, videos)]
    serving = _serving(folder)
    if serving in holding:
        for _ in range(_TRIES):
            try:
                built = _build_as(read_manifest(folder, serving), store, workspace)
            except ErasedMeanwhile:  # another one: it is built without them too
                continue
            if built:
                done(f"generations/{built}", "built without them, published")
            break
        else:
            raise ErasedMeanwhile
    remove(workspace, holding)
    for name in holding:
        done(f"generations/{name}", "removed")


def _build_as(manifest: GenerationManifest, store: Store, workspace: Workspace) -> str:
    """The name of a generation as this one, of what is stored now, which serves; empty where nothing is stored."""
    stored = store.clips(manifest.encoder_id)
    if not len(stored.clips):
        return ""
    kind, target = manifest.index, manifest.recall_target
    built = build_generation(stored, workspace.generations, kind=kind, recall_target=target).generation
    release(workspace, built, publish_it=True, force=True)
    return built


def _serving(folder: Path) -> str:
    try:
        return current(folder) or ""
    except SemiomeError:
        return ""


def _holds(folder: Path, name: str, patients: Iterable[str], videos: Iterable[str]) -> bool:
    """Whether a generation holds any of these; one that can't be read might."""
    try:
        clips: ClipTable = read_clips(folder, name)
    except (SemiomeError, OSError, ValueError):
        return True
    return not set(patients).isdisjoint(clips.patient_ids) or not set(videos).isdisjoint(clips.video_ids)
