"""Generations: immutable indexes built offline from one table version, each file verified by its digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.files.durable import digest_of_file, is_plain, small_file, sync_file, sync_folder
from index.files.failures import naming_failed_writes, unreadable
from index.files.locks import exclusive_lock
from index.tables.clip_table import ClipTable
from index.tables.rows import StoredClips
from index.vectors.brute_force import Vectors
from index.vectors.clip_map import PCA, clip_map
from index.vectors.faiss_index import FLAT, KINDS, ONE_BIT, ONE_BYTE, Effort, FlatIndex, Index, IvfIndex
from index.vectors.recall import tuned_recall
from index.vectors.whitening import Whitening
from index.workspace import current

_VECTORS, _CLIPS, _INDEX, _MAP, MANIFEST = "vectors.npy", "clips.arrow", "index.faiss", "map.npy", "manifest.json"
FLAT_CLIPS = 20_000
"""Up to this number of clips every one is compared: exact, and fast enough."""
RECALL_TARGET = 0.95
_NAME_DIGITS = 16
_MOST_BYTES = 2**30, 2**18
"""Largest size of a generation's file, and more for each of its clips: what is larger need not be read to be wrong."""


@dataclass(frozen=True, slots=True)
class GenerationManifest:
    """What a generation says of itself.

    Attributes:
        generation: its name: a number that grows, and the beginning of the digest of the manifest's file.
        encoder_id: the encoder of the embeddings.
        table_version: the clip table's version it was built from; later rows are searched beside it.
        clips: number of rows.
        videos: number of distinct videos.
        patients: number of distinct patients.
        width: D.
        index: kind of index.
        effort: how hard it looks; None where it compares with everything.
        recall: share of the true nearest 10 that it found, each query without its own patient.
        recall_interval: 95 %, over queries.
        recall_target: recall that was aimed at.
        recall_queries: on how many queries it was measured; others than it was tuned on.
        built_at: UTC, ISO 8601.
        digests: of each file, see `index.files.durable.digest_of_file`.
        map: how its clips are laid out to be looked at (`index.vectors.clip_map`); empty where they are not.
        tried: recall of the kinds that were built before this one and did not reach the target.
    """

    generation: str
    encoder_id: str
    table_version: int
    clips: int
    videos: int
    patients: int
    width: int
    index: str
    effort: Effort | None
    recall: float
    recall_interval: tuple[float, float]
    recall_target: float
    recall_queries: int
    built_at: str
    digests: dict[str, str]
    map: str = ""
    tried: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """A loaded generation: row n of the index is `clips[n]`, its vector `vectors.rows([n])`.

    On the map it lies at `positions[n]`, (N, 2) float32; None where there is no map.
    """

    manifest: GenerationManifest
    index: Index
    vectors: Vectors
    clips: ClipTable
    positions: NDArray[np.float32] | None = None

    @cached_property
    def whitening(self) -> Whitening:
        """What tells these vectors apart."""
        return Whitening.of(self.vectors.all)

    @cached_property
    def whitened(self) -> NDArray[np.float32]:
        """(N, K) of all rows; made when it is first asked for."""
        return self.whitening(self.vectors.all)


def build_generation(
    stored: StoredClips,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    kind: str | None = None,
    recall_target: float = RECALL_TARGET,
    map_by: str = PCA,
) -> GenerationManifest:
    """Build a generation beside the others; nothing sees it until it is published.

    Args:
        stored: rows of one table version.
        folder: the workspace's generations.
        progress: told (recall queries done, in all).
        kind: of index; by default exact up to `FLAT_CLIPS` clips, above the first that reaches the target of an
            approximate one with small codes, one with larger codes, and the exact one.
        recall_target: what an approximate one is tuned to.
        map_by: how the clips are laid out to be looked at, see `index.vectors.clip_map`.

    Raises:
        StateError: If there are no clips.
        InvalidInput: If the kind is unknown, or the recall out of bounds.
        Locked: If another process is building.
        DiskFull: If no space is left; nothing is left behind.
    """
    if not len(stored.clips):
        raise StateError(f"no clips of encoder {stored.encoder_id} are stored: run `semiome encode` first")
    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"expected an index of kind {', '.join(KINDS)}, got {kind[:64]!r}")
    kinds = (kind,) if kind else (FLAT,) if len(stored.clips) <= FLAT_CLIPS else (ONE_BIT, ONE_BYTE, FLAT)
    if not 0 < recall_target <= 1:
        raise InvalidInput(f"expected a recall above 0 and at most 1, got {recall_target}")
    folder.mkdir(parents=True, exist_ok=True)
    with naming_failed_writes(), building_lock(folder):
        building = folder / f".building-{os.getpid()}"
        remove_unfinished(folder)
        building.mkdir()
        try:
            return _build(stored, building, progress, kinds, recall_target, map_by)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            sync_folder(folder)


def _build(
    stored: StoredClips,
    building: Path,
    progress: Callable[[int, int], None],
    kinds: Sequence[str],
    recall_target: float,
    map_by: str,
) -> GenerationManifest:
    folder = building.parent
    files = [_VECTORS, _CLIPS, _MAP]
    Vectors.write(building / _VECTORS, stored.vectors)
    stored.clips.write(building / _CLIPS)
    vectors = Vectors.map(building / _VECTORS)
    Vectors.write(building / _MAP, clip_map(vectors, map_by))
    tried: dict[str, float] = {}
    for kind in kinds:
        index: Index = FlatIndex(vectors) if kind == FLAT else IvfIndex.build(kind, vectors)
        recall = tuned_recall(index, vectors, stored.clips, recall_target, progress)
        if recall.value >= recall_target:
            break
        tried[kind] = recall.value
    others = {name: value for name, value in tried.items() if name != index.kind}
    if isinstance(index, IvfIndex):
        index.write(building / _INDEX)
        files.append(_INDEX)
    for name in files:
        sync_file(building / name)
    values = {
        "encoder_id": stored.encoder_id,
        "table_version": stored.table_version,
        "clips": len(stored.clips),
        "videos": len(stored.clips.video_ids),
        "patients": len(stored.clips.patient_ids),
        "width": vectors.width,
        "index": index.kind,
        "effort": asdict(index.effort) if isinstance(index, IvfIndex) else None,
        "recall": recall.value,
        "recall_interval": (recall.low, recall.high),
        "recall_target": recall_target,
        "recall_queries": recall.queries,
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "digests": {name: digest_of_file(building / name) for name in files},
        "map": map_by,
        **({"tried": others} if others else {}),  # versions before 0.2 don't know it
    }
    text = json.dumps(values, indent=2) + "\n"
    (building / MANIFEST).write_text(text, encoding="utf-8")
    sync_file(building / MANIFEST)
    sync_folder(building)
    name = f"{_next_number(folder):06d}-{_name_digest(text.encode())}"
    building.rename(folder / name)
    return read_manifest(folder, name)


@contextmanager
def building_lock(folder: Path) -> Iterator[None]:
    """Held while generations are built or removed.

    Raises:
        Locked: If another process holds it.
    """
    with exclusive_lock(folder / "build.lock", "the right to build this workspace's index"):
        yield


def check_publishable(folder: Path, generation: str, *, force: bool = False) -> None:
    """Say whether a generation may be published.

    Raises:
        NotFound: If there is none of that name.
        StateError: If its recall is below its target, and it is not forced.
    """
    if generation not in list_generations(folder):
        raise NotFound(f"no generation {generation[:64]!r} in this workspace")
    manifest = read_manifest(folder, generation)
    if manifest.recall < manifest.recall_target and not force:
        raise StateError(
            f"generation {generation} ({manifest.index}) finds {manifest.recall:.3f} of the true neighbours, below its "
            f"target of {manifest.recall_target}: it is not published unless forced. `semiome index build` without "
            f"--kind chooses one that reaches it; --kind {FLAT} finds all"
        )


def remove_generation(folder: Path, name: str) -> None:
    """Remove one, so that a crash leaves it either whole or unseen; one behind a link with the link."""
    (folder / name / MANIFEST).unlink(missing_ok=True)
    _remove_tree(folder / name)
    sync_folder(folder)


def list_generations(folder: Path) -> list[str]:
    """Names of all whole generations, oldest first."""
    return sorted(entry.parent.name for entry in folder.glob(f"[0-9]*/{MANIFEST}"))


def read_manifest(folder: Path, generation: str) -> GenerationManifest:
    """What a generation says of itself.

    Raises:
        DamagedData: If it can't be read, or is not what was built.
    """
    try:
        data = small_file(folder / generation / MANIFEST)
        if generation.partition("-")[2] != _name_digest(data):
            raise ValueError("changed")
        values = json.loads(data)
        effort = values["effort"] and Effort(**values["effort"])
        interval = tuple(values["recall_interval"])
        return GenerationManifest(**{**values, "generation": generation, "effort": effort, "recall_interval": interval})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise unreadable(
            error,
            f"the manifest of generation {generation} can't be read or is not what was built "
            f"({type(error).__name__}): build the index again",
        ) from None


def read_clips(folder: Path, generation: str) -> ClipTable:
    """Which clips a generation holds.

    Raises:
        DamagedData: If they can't be read, or are not what was built.
    """
    path = folder / generation / _CLIPS
    manifest = read_manifest(folder, generation)
    if not _is_as_built(path, manifest):
        raise DamagedData(
            f"{_CLIPS} of generation {generation} is missing or not what was built: build the index again"
        )
    return ClipTable.read(path)


def load_generation(folder: Path, generation: str | None = None) -> Generation:
    """Load a generation, by default the one that serves, after checking every file's digest.

    Raises:
        StateError: If none is published.
        DamagedData: If a file is not what was built.
    """
    name = generation or current(folder)
    if name is None:
        raise StateError("no index is published: run `semiome index build` first")
    manifest = read_manifest(folder, name)
    if manifest.digests.keys() != _files_of(manifest):
        raise DamagedData(f"the manifest of generation {name} does not name its files: build the index again")
    for file in manifest.digests:
        if not _is_as_built(folder / name / file, manifest):
            raise DamagedData(
                f"{file} of generation {name} is missing or not what was built: "
                "build the index again with `semiome index build`"
            )
    vectors = Vectors.map(folder / name / _VECTORS)
    clips = ClipTable.read(folder / name / _CLIPS)
    if not len(vectors) == len(clips) == manifest.clips or vectors.width != manifest.width:
        raise DamagedData(f"generation {name}: {len(vectors)} vectors, {len(clips)} clips, expected {manifest.clips}")
    index: Index
    if manifest.index == FLAT:
        index = FlatIndex(vectors)
    elif manifest.effort is not None and manifest.index in KINDS:
        index = IvfIndex.read(manifest.index, folder / name / _INDEX, vectors, manifest.effort)
    else:
        raise DamagedData(f"the manifest of generation {name} does not say how to search it: build the index again")
    positions = Vectors.map(folder / name / _MAP).all if manifest.map else None
    if positions is not None and positions.shape != (len(clips), 2):
        raise DamagedData(f"generation {name}: a map of {positions.shape} for {len(clips)} clips")
    return Generation(manifest, index, vectors, clips, positions)


def _is_as_built(path: Path, manifest: GenerationManifest) -> bool:
    fixed, a_clip = _MOST_BYTES
    return is_plain(path, fixed + a_clip * manifest.clips) and digest_of_file(path) == manifest.digests.get(path.name)


def _files_of(manifest: GenerationManifest) -> set[str]:
    """Names of a generation's files; those of versions before 0.2 have no map."""
    return {_VECTORS, _CLIPS} | ({_MAP} if manifest.map else set()) | ({_INDEX} if manifest.index != FLAT else set())


def remove_unfinished(folder: Path) -> None:
    """What builds and removals that were killed have left; the caller holds the lock, so no process is building."""
    for left in (*folder.glob(".building-*"), *(f for f in folder.glob("[0-9]*") if not (f / MANIFEST).exists())):
        _remove_tree(left, ignore_errors=True)


def _remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    shutil.rmtree(folder.resolve(), ignore_errors=ignore_errors)
    if folder.is_symlink():
        folder.unlink()


def _name_digest(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:_NAME_DIGITS]


def _next_number(folder: Path) -> int:
    return max((int(name.split("-")[0]) for name in list_generations(folder)), default=0) + 1
