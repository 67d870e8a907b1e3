"""Generations: immutable indexes built offline from one table version, verified by hash, published by a rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.errors import DamagedData, NotFound, StateError
from index.faiss_index import FlatIndex
from index.files import sha256_of_file, sync_file, sync_folder
from index.records import Clip
from index.store import StoredClips
from index.workspace import current, set_current

_VECTORS, _CLIPS, _MANIFEST = "vectors.faiss", "clips.arrow", "manifest.json"
_RECALL_QUERIES, _RECALL_K = 100, 10


@dataclass(frozen=True, slots=True)
class GenerationManifest:
    """What a generation says of itself.

    Attributes:
        generation: its name: a number that grows, and the beginning of a digest.
        encoder_id: whose embeddings.
        table_version: the clip table's version it was built from.
        clips: rows.
        videos: distinct videos.
        patients: distinct patients.
        width: D.
        index: kind of index.
        recall: share of the true nearest 10 that the index found.
        recall_queries: on how many queries that was measured, each without its own patient.
        built_at: UTC, ISO 8601.
        sha256: digest of each file.
    """

    generation: str
    encoder_id: str
    table_version: int
    clips: int
    videos: int
    patients: int
    width: int
    index: str
    recall: float
    recall_queries: int
    built_at: str
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class Generation:
    """A loaded generation: row n of the index is `clips[n]`."""

    manifest: GenerationManifest
    index: FlatIndex
    clips: tuple[Clip, ...]


def build_generation(
    stored: StoredClips, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> GenerationManifest:
    """Build a generation beside the others; nothing sees it until it is published.

    Args:
        stored: rows of one table version.
        folder: the workspace's generations.
        progress: told (recall queries done, in all), the longest part of an exact build.

    Raises:
        StateError: there are no clips.
    """
    if not stored.clips:
        raise StateError(f"no clips of encoder {stored.encoder_id} are stored: run `semiome encode` first")
    folder.mkdir(parents=True, exist_ok=True)
    building = folder / f".building-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        index = FlatIndex.build(stored.vectors)
        index.write(building / _VECTORS)
        _write_clips(building / _CLIPS, stored.clips)
        digests = {name: sha256_of_file(building / name) for name in (_VECTORS, _CLIPS)}
        recall, queries = recall_without_own_patient(index, stored.vectors, stored.clips, progress)
        manifest = GenerationManifest(
            generation=f"{_next_number(folder):06d}-{digests[_VECTORS][:8]}",
            encoder_id=stored.encoder_id,
            table_version=stored.table_version,
            clips=len(stored.clips),
            videos=len({clip.video_id for clip in stored.clips}),
            patients=len({clip.patient_id for clip in stored.clips}),
            width=index.width,
            index=index.kind,
            recall=recall,
            recall_queries=queries,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            sha256=digests,
        )
        (building / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
        for name in (_VECTORS, _CLIPS, _MANIFEST):
            sync_file(building / name)
        sync_folder(building)
        building.rename(folder / manifest.generation)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    sync_folder(folder)
    return manifest


def publish(folder: Path, generation: str) -> None:
    """Make a generation the one that serves.

    Raises:
        NotFound: there is none of that name.
    """
    if generation not in list_generations(folder):
        raise NotFound(f"no generation {generation!r} in this workspace")
    set_current(folder, generation)


def list_generations(folder: Path) -> list[str]:
    """Names of all whole generations, oldest first."""
    return sorted(entry.parent.name for entry in folder.glob(f"[0-9]*/{_MANIFEST}"))


def read_manifest(folder: Path, generation: str) -> GenerationManifest:
    """What a generation says of itself.

    Raises:
        DamagedData: it can't be read.
    """
    try:
        values = json.loads((folder / generation / _MANIFEST).read_text(encoding="utf-8"))
        return GenerationManifest(**values)
    except (OSError, ValueError, TypeError) as error:
        raise DamagedData(f"the manifest of generation {generation} can't be read ({type(error).__name__})") from None


def load_generation(folder: Path, generation: str | None = None) -> Generation:
    """Load a generation, by default the one that serves, after checking every file's digest.

    Raises:
        StateError: none is published.
        DamagedData: a file is not what was built.
    """
    name = generation or current(folder)
    if name is None:
        raise StateError("no index is published: run `semiome index build` first")
    manifest = read_manifest(folder, name)
    if manifest.sha256.keys() != {_VECTORS, _CLIPS}:
        raise DamagedData(f"the manifest of generation {name} does not name its files: build the index again")
    for file, expected in manifest.sha256.items():
        path = folder / name / file
        if not path.is_file() or sha256_of_file(path) != expected:
            raise DamagedData(
                f"{file} of generation {name} is missing or not what was built: "
                "build the index again with `semiome index build`"
            )
    index = FlatIndex.read(folder / name / _VECTORS)
    clips = _read_clips(folder / name / _CLIPS)
    if not len(index) == len(clips) == manifest.clips:
        raise DamagedData(f"generation {name}: {len(index)} vectors, {len(clips)} clips, expected {manifest.clips}")
    return Generation(manifest, index, clips)


def recall_without_own_patient(
    index: FlatIndex,
    vectors_ND: NDArray[np.float32],
    clips: Sequence[Clip],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[float, int]:
    """Share of the true nearest 10 that an index finds, its query's patient excluded, against plain NumPy.

    Returns:
        Recall (1.0 where no query has a neighbour) and the number of queries asked.
    """
    patients = np.array([clip.patient_id for clip in clips])
    chosen = np.random.default_rng(0).permutation(len(clips))[:_RECALL_QUERIES]
    found = asked = queries = 0
    for done, row in enumerate(chosen):
        progress(done, len(chosen))
        allowed = patients != patients[row]
        k = min(_RECALL_K, int(allowed.sum()))
        if k == 0:
            continue
        similarities = np.where(allowed, vectors_ND @ vectors_ND[row], -np.inf)
        least = np.partition(similarities, -k)[-k]
        _, rows = index.search(vectors_ND[row : row + 1], k, allowed)
        # By similarity, not by row: of clips equally near, any will do.
        found += int((similarities[rows[0]] >= least - 1e-6).sum())
        asked += k
        queries += 1
    progress(len(chosen), len(chosen))
    return (found / asked if asked else 1.0), queries


def _next_number(folder: Path) -> int:
    return max((int(name.split("-")[0]) for name in list_generations(folder)), default=0) + 1


def _write_clips(path: Path, clips: Sequence[Clip]) -> None:
    table = pa.Table.from_pylist([asdict(clip) for clip in clips])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_clips(path: Path) -> tuple[Clip, ...]:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    names = ("clip_id", "video_id", "patient_id", "clip_index", "start_s", "valid_seconds")
    return tuple(Clip(*values) for values in zip(*(table.column(name).to_pylist() for name in names), strict=True))
