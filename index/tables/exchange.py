"""Clips and videos out of a store and into another: Parquet, and a folder for TensorBoard's projector.

Parquet holds everything that is stored, pseudonyms too, and can be taken in by another workspace. Vectors of another
encoder than the own stay apart, as they do in the store.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index.errors import InvalidInput, StateError
from index.files.durable import new_folder
from index.near_misses import near_misses
from index.records import Clip, EmbeddedClip, Video, check_clip, check_crop, check_video
from index.tables.committer import UNIT_TOLERANCE, committing
from index.tables.rows import batches
from index.tables.schema import LATER_COLUMNS, VIDEOS, check_rows, clips_schema, row_of_video, vectors_of, video_of_row
from index.tables.store import Store

_CLIPS, _VIDEOS = "clips.parquet", "videos.parquet"
_NOT_TAKEN_ALONG = ("patient_key", "commit_number", "row_sha256")
"""What belongs to one workspace."""
_FORMAT = "semiome-1"
_TSV_COLUMNS = ("clip_id", "video_id", "patient_id", "label", "start_s", "semiology", "camera")


@dataclass(frozen=True, slots=True)
class Moved:
    """What went out or came in.

    Attributes:
        encoder_id: the encoder of the vectors.
        clips: how many; of an import only those that were new or different.
        videos: number of videos.
        patients: number of patients.
    """

    encoder_id: str
    clips: int
    videos: int
    patients: int


def export_parquet(store: Store, encoder_id: str, folder: Path) -> Moved:
    """Write the clips of one encoder, and their videos, into a new folder.

    Raises:
        InvalidInput: If the folder is there already.
        NotFound: If the encoder has no clips.
        StateError: If clips lack their videos.
        DamagedData: If a row is not what was written; nothing is left.
    """
    with new_folder(folder) as building:
        table, count, known = store.clip_table(encoder_id), 0, set()
        names = [name for name in table.schema.names if name not in _NOT_TAKEN_ALONG]
        about = {b"semiome": json.dumps({"format": _FORMAT, "encoder_id": encoder_id}).encode()}
        schema = pa.schema([table.schema.field(name) for name in names], about)
        with pq.ParquetWriter(building / _CLIPS, schema, compression="zstd") as writer:
            for batch in batches(table, table.schema.names):
                check_rows(batch)
                writer.write_table(pa.Table.from_batches([batch]).select(names).cast(schema))
                count += batch.num_rows
                known |= set(batch.column("video_id").to_pylist())
        described = store.videos()
        if known - described.keys():
            raise StateError("some clips have no video, as a crash leaves them: encode the manifest again first")
        videos = [described[name] for name in sorted(known)]
        plain = pa.schema([field.remove_metadata() for field in VIDEOS if field.name not in _NOT_TAKEN_ALONG])
        rows_of = [row_of_video(video) for video in videos]
        pq.write_table(pa.Table.from_pylist(rows_of, plain), building / _VIDEOS, compression="zstd")
        patients = {video.patient_id for video in videos}
        return Moved(encoder_id, count, len(videos), len(patients))


def import_parquet(store: Store, folder: Path, *, distinct_ids: bool = False) -> Moved:
    """Take in what `export_parquet` wrote; what is stored already, unchanged, is not written again.

    Args:
        store: to write to.
        folder: the export.
        distinct_ids: ids that look like misspellings of each other are different.

    Raises:
        InvalidInput: If there is no such export, or it holds what no store may: a wrong width, values that are not
            finite, vectors that are not of unit length, a clip without its video, an id twice, a field out of its
            bounds, a
            clip under another one's id; or a video that is stored here under the same id from another file or for
            another patient, or under another id for another patient.
        StateError: If a patient was erased from this workspace.
        Locked: If another process is committing.
    """
    encoder_id, clips, videos = _read(folder)
    by_video: dict[str, list[EmbeddedClip]] = {}
    for embedded in _embedded(clips):
        by_video.setdefault(embedded.clip.video_id, []).append(embedded)
    if strangers := by_video.keys() - videos.keys():
        raise InvalidInput(f"{_CLIPS} has clips of {len(strangers)} videos that {_VIDEOS} does not describe")
    sources = dict(zip(clips.column("video_id").to_pylist(), clips.column("source_sha256").to_pylist(), strict=True))
    for name, embeddeds in by_video.items():
        videos[name] = replace(videos[name], source_sha256=sources[name])  # what these clips were made of
        if {embedded.clip.patient_id for embedded in embeddeds} != {videos[name].patient_id}:
            raise InvalidInput(f"video {name[:64]!r} is of another patient in {_CLIPS} than in {_VIDEOS}")
    patients = {videos[name].patient_id for name in by_video}
    written = 0
    with committing(store, encoder_id, clips.schema.field("vector").type.list_size) as committer:
        if store.erased(patients):
            raise StateError("a patient of this export was erased from this workspace and is not taken in again")
        stored = store.videos()
        for name in by_video.keys() & stored.keys():
            here, there = stored[name], videos[name]
            if (here.patient_id, here.source_sha256) != (there.patient_id, there.source_sha256):
                raise InvalidInput(f"video {name[:64]!r} is stored here from another file, or for another patient")
        new = [videos[name] for name in by_video if name not in stored]
        _check_identities(new, stored, distinct_ids=distinct_ids)
        names = sorted(by_video)
        for start in range(0, len(names), 64):
            written += committer.commit([(videos[name], by_video[name]) for name in names[start : start + 64]])
        committer.compact()
    return Moved(encoder_id, written, len(by_video), len(patients))


def _check_identities(new: Sequence[Video], stored: Mapping[str, Video], *, distinct_ids: bool) -> None:
    """What comes in meets what is here, and itself: one recording has one patient, and an id one spelling."""
    owners = {video.source_sha256: video for video in stored.values()}
    for video in new:
        other = owners.setdefault(video.source_sha256, video)
        if other.patient_id != video.patient_id:
            raise InvalidInput(f"video {video.video_id!r} is the same file as {other.video_id!r} of another patient")
    for name in ("patient_id", "video_id", "split"):
        known = {getattr(video, name) for video in stored.values()} - {""}
        groups = near_misses({getattr(video, name) for video in new} - {""} - known, known)
        if groups and not distinct_ids:
            raise InvalidInput(
                f"ids that look like misspellings of each other: {', '.join(groups[0])} ({name}); correct the export, "
                "or say that they are different with --distinct-ids"
            )


def export_projector(store: Store, encoder_id: str, folder: Path, clips: int, seed: int = 0) -> Moved:
    """Write clips for TensorBoard's projector (`tensorboard --logdir FOLDER`) into a new folder.

    Args:
        store: to read from.
        encoder_id: the encoder of the clips.
        folder: the folder to make.
        clips: most to write, in whole videos drawn at random: the projector shows no million.
        seed: decides the draw.

    Raises:
        InvalidInput: If the folder is there already.
        NotFound: If the encoder has no clips.
    """
    stored, videos = store.clips(encoder_id), store.videos()
    sizes = np.bincount(stored.clips.video_of_row)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(sizes <= clips))
    chosen = order[np.cumsum(sizes[order]) <= clips]
    rows = np.flatnonzero(np.isin(stored.clips.video_of_row, chosen))
    if not len(rows):
        raise InvalidInput(f"no whole video has at most {clips} clips: ask for more")
    with new_folder(folder) as building:
        np.savetxt(building / "vectors.tsv", stored.vectors[rows], fmt="%.7g", delimiter="\t")
        found = stored.clips.clips(rows)
        with (building / "clips.tsv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerow(_TSV_COLUMNS)
            writer.writerows(_described(clip, videos.get(clip.video_id)) for clip in found)
        (building / "projector_config.pbtxt").write_text(
            f'embeddings {{\n  tensor_name: "clips of encoder {encoder_id}"\n  tensor_path: "vectors.tsv"\n'
            '  metadata_path: "clips.tsv"\n}\n',
            encoding="utf-8",
        )
    return Moved(encoder_id, len(rows), len(chosen), len({clip.patient_id for clip in found}))


def _described(clip: Clip, video: Video | None) -> tuple[object, ...]:
    label, tags, camera = (video.label, " ".join(video.semiology), video.camera) if video else ("", "", "")
    return clip.clip_id, clip.video_id, clip.patient_id, label or "unlabelled", clip.start_s, tags, camera


def _read(folder: Path) -> tuple[str, pa.Table, dict[str, Video]]:
    """Encoder, clips and videos of an export, types and bounds checked."""
    try:
        clips, videos = pq.read_table(folder / _CLIPS), pq.read_table(folder / _VIDEOS)
        about = json.loads((clips.schema.metadata or {}).get(b"semiome", b"{}"))
        width = clips.schema.field("vector").type.list_size
        wanted = pa.schema([field for field in clips_schema(width) if field.name not in _NOT_TAKEN_ALONG])
        clips = clips.select(wanted.names).cast(wanted)
        absent = {*_NOT_TAKEN_ALONG, *(name for name in LATER_COLUMNS if name not in videos.schema.names)}
        described = pa.schema([field for field in VIDEOS if field.name not in absent])
        rows = videos.select(described.names).cast(described).to_pylist()
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException) as error:
        raise InvalidInput(
            f"expected a folder with {_CLIPS} and {_VIDEOS} as `semiome store export` writes them "
            f"({type(error).__name__})"
        ) from None
    about = about if isinstance(about, dict) else {}
    encoder_id = str(about.get("encoder_id", ""))
    if about.get("format") != _FORMAT or not re.fullmatch("[0-9A-Za-z]{1,64}", encoder_id):
        raise InvalidInput(f"{_CLIPS} does not say which encoder it is of, or is of another version of Semiome")
    found = {row["video_id"]: video_of_row(row) for row in rows}
    if len(found) < len(rows):
        raise InvalidInput(f"{_VIDEOS} has a video twice")
    ids = clips.column("clip_id").to_pylist()
    if len(set(ids)) < clips.num_rows:
        raise InvalidInput(f"{_CLIPS} has a clip twice")
    for video in found.values():
        check_video(video)
    sources = clips.column("source_sha256").to_pylist()
    numbers: dict[str, set[int]] = {}
    strides: dict[str, set[float]] = {}
    for embedded, source in zip(_embedded(clips), sources, strict=True):
        check_clip(embedded.clip, source)
        check_crop(embedded.crop)
        clip = embedded.clip
        numbers.setdefault(clip.video_id, set()).add(clip.clip_index)
        if clip.clip_index:
            strides.setdefault(clip.video_id, set()).add(round(clip.start_s / clip.clip_index, 6))
    for name, of_video in numbers.items():
        if name in found and of_video != set(range(found[name].clip_count)):
            raise InvalidInput(f"video {name!r} is to have {found[name].clip_count} clips, {_CLIPS} has others")
        if len(strides.get(name, ())) > 1:
            raise InvalidInput(f"the clips of video {name!r} do not follow each other evenly in {_CLIPS}")
    vectors = vectors_of(clips)
    if not (np.isfinite(vectors).all() and (np.abs(np.linalg.norm(vectors, axis=1) - 1) < UNIT_TOLERANCE).all()):
        raise InvalidInput("expected finite vectors of unit length")
    return encoder_id, clips, found


def _embedded(rows: pa.Table) -> Iterator[EmbeddedClip]:
    vectors = vectors_of(rows)
    names = ("clip_id", "video_id", "patient_id", "clip_index", "start_s", "valid_seconds")
    columns = (rows.column(name).to_pylist() for name in (*names, "crop"))
    for vector, *values, crop in zip(vectors, *columns, strict=True):
        fields: dict[str, Any] = dict(zip(names, values, strict=True))
        yield EmbeddedClip(Clip(**fields), vector, crop)
