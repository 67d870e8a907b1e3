"""The store: clips with their embeddings, videos and patients, in LanceDB tables; how they are read.

One clip table per encoder id. What can change without a new embedding (label, tags, date, camera) stands in the
videos table alone, so that there is one truth and a new label rewrites no vector. Rows are written by one process at
a time (`index.tables.committer`), and acknowledged once they are on disk. `patient_key` is random: it, and opaque clip
ids, are the only values that ever stand in a predicate, because LanceDB keeps predicates in its transaction files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import NotFound, OutOfMemory
from index.files.failures import naming_failed_writes
from index.files.locks import ensure_temporary_folder
from index.records import Video
from index.tables.blocklist import alike_to_erased, erased_among
from index.tables.clip_table import ClipTable
from index.tables.lance import Tables
from index.tables.rows import StoredClips, batches, read_rows, select
from index.tables.schema import (
    CLIP_COLUMNS,
    LATER_COLUMNS,
    NO_PICTURE,
    VIDEOS,
    WITH_PICTURE,
    check_rows,
    id_predicate,
    video_of_row,
)
from index.workspace import COMMIT_LOCK, Workspace

_ROWS_AT_ONCE = 256
_CONNECTS_WITHIN_S = 60.0
_VIDEO_FIELDS = tuple(name for name in VIDEOS.names if name != "patient_key")


@dataclass(frozen=True, slots=True)
class Changes:
    """What has happened to a clip table since a generation was built from it.

    Attributes:
        added: clips that are new, or whose rows are.
        gone: rows of the generation that are not in the table any more, or not as they were.
    """

    added: StoredClips
    gone: NDArray[np.int64]

    def without_patients(self, patient_ids: Set[str], clips: ClipTable) -> Changes:
        """The changes as if no row of these patients were in the table.

        Args:
            patient_ids: the patients to leave out.
            clips: the generation's.
        """
        runs = [np.array(clips.rows_of_patient(patient), np.int64) for patient in sorted(patient_ids)]
        tail = self.added.clips
        numbers = [number for number, name in enumerate(tail.patient_ids) if name in patient_ids]
        vectors = self.added.vectors[~np.isin(tail.patient_of_row, numbers)]
        added = replace(self.added, clips=tail.without_patients(patient_ids), vectors=vectors)
        return Changes(added, np.unique(np.concatenate([self.gone, *runs])))


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """What a video's stored clips were made of, and whose they are."""

    source_sha256: str
    crop: str
    patient_id: str


class Store:
    """Reads what is stored; `index.tables.committer.committing` gives the one writer.

    Every read opens the tables, and so sees the newest version.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._tables = Tables(workspace)
        self._settled: dict[Path, int] = {}

    @property
    def workspace(self) -> Workspace:
        """Whose store it is."""
        return self._workspace

    @property
    def remote(self) -> bool:
        """Whether writers on several hosts can reach it."""
        return self._tables.remote

    def reached(self) -> AbstractContextManager[None]:
        """Within it, what LanceDB raises of an object storage becomes `Unreachable`, or says why it refuses."""
        return self._tables.reached()

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self._tables.exists()

    def encoder_ids(self) -> tuple[str, ...]:
        """Encoders that have a clip table."""
        return tuple(name.removeprefix("clips_") for name in self.table_names() if name.startswith("clips_"))

    def videos(self) -> dict[str, Video]:
        """All videos by id."""
        if "videos" not in self.table_names():
            return {}
        found = {}
        # In small parts: making objects of one holds up all other threads, such as those that answer searches.
        table = self.open_table("videos")
        fields = [name for name in _VIDEO_FIELDS if name in table.schema.names or name not in LATER_COLUMNS]
        for part in select(table, fields).to_batches(_ROWS_AT_ONCE):
            for row in part.to_pylist():
                found[row["video_id"]] = video_of_row(row)
        return found

    def patients(self) -> set[str]:
        """Ids of all patients with a row in any table."""
        tables = [self.open_table(name) for name in self.table_names()]
        return {patient for table in tables for patient in select(table, ["patient_id"]).column(0).to_pylist()}

    def _with_a_key(self) -> set[str]:
        names = ["patients"] if "patients" in self.table_names() else []
        return {patient for name in names for patient in select(self.open_table(name), ["patient_id"])[0].to_pylist()}

    def videos_version(self) -> int:
        """Version of the videos table: changes whenever a label or tag does. 0 when there is none."""
        return int(self.open_table("videos").version) if "videos" in self.table_names() else 0

    def erased(self, patient_ids: set[str]) -> set[str]:
        """Those of these patients that were erased and are not taken in again."""
        return erased_among(self._workspace, patient_ids)

    def alike_to_erased(self, patient_ids: set[str]) -> set[str]:
        """Those of these patients whose ids look like misspellings of one that was erased."""
        return alike_to_erased(self._workspace, patient_ids)

    def encoded(self, encoder_id: str) -> dict[str, EncodedVideo]:
        """What the clips of this encoder were made of, by video id."""
        if f"clips_{encoder_id}" not in self.table_names():
            return {}
        names = ["video_id", "source_sha256", "crop", "patient_id"]
        table = select(self.clip_table(encoder_id), names)
        columns = (table.column(name).to_pylist() for name in names)
        return {
            video_id: EncodedVideo(source, crop.removeprefix(NO_PICTURE).strip(), patient)
            for video_id, source, crop, patient in zip(*columns, strict=True)
        }

    def clips(self, encoder_id: str) -> StoredClips:
        """Every clip of an encoder that shows a picture, at the newest version, each row's hash checked.

        Not those of patients who have been erased, whose rows stay until nothing else is written.

        Raises:
            NotFound: If the encoder has no clips.
            DamagedData: If a row is not what was written.
        """
        table, where = self.clip_table(encoder_id), WITH_PICTURE
        if erased := self.erased(self._with_a_key()):
            where = f"({where}) AND NOT ({id_predicate('patient_id', sorted(erased))})"
        return read_rows(table, encoder_id, where)

    def check(self, encoder_id: str) -> int:
        """Check every row's hash, a part at a time.

        Returns:
            How many clips there are.

        Raises:
            NotFound: If the encoder has no clips.
            DamagedData: If a row is not what was written.
        """
        count = 0
        for batch in batches(self.clip_table(encoder_id), [*CLIP_COLUMNS, "vector"]):
            check_rows(batch)
            count += batch.num_rows
        return count

    def clip_ids(self, encoder_id: str) -> set[str]:
        """Ids of every clip of an encoder.

        Raises:
            NotFound: If the encoder has no clips.
        """
        return set(select(self.clip_table(encoder_id), ["clip_id"]).column(0).to_pylist())

    def changes(self, encoder_id: str, clips: ClipTable, table_version: int) -> Changes:
        """What the newest version has and a generation does not, and the other way round.

        Args:
            encoder_id: the table's encoder.
            clips: the generation's.
            table_version: what it was built from.

        Raises:
            NotFound: If the encoder has no clips.
            DamagedData: If a row is not what was written.
        """
        table = self.clip_table(encoder_id)
        added = read_rows(table, encoder_id, f"commit_number > {int(table_version)} AND {WITH_PICTURE}")
        written_again = clips.rows_of(added.clips.clip_ids.to_pylist())
        written_again = written_again[written_again >= 0]
        kept = f"commit_number <= {int(table_version)} AND {WITH_PICTURE}"
        if table.count_rows(kept) == len(clips) - len(written_again):
            return Changes(added, written_again)
        there = select(table, ["clip_id"], kept).column("clip_id").combine_chunks()
        return Changes(added, clips.missing_from(there))

    def version(self, encoder_id: str) -> int:
        """Version of an encoder's clip table: changes whenever a row does.

        Raises:
            NotFound: If the encoder has no clips.
        """
        return int(self.clip_table(encoder_id).version)

    @contextmanager
    def writing(self) -> Iterator[Callable[[], None]]:
        """The right to change tables, for one process at a time.

        Yields:
            A function that raises `Locked` once the right was lost, as it may be on object storage.

        Raises:
            Locked: If another process has it.
            DiskFull: If no space is left, within the block too.
        """
        ensure_temporary_folder(self._workspace.root)
        if self.remote:
            _lancedb()  # takes seconds to load, in which the holder of a lease could give no sign of life
        with (
            naming_failed_writes(),
            self._workspace.place.lease(COMMIT_LOCK, "the right to write to this workspace's store") as still_mine,
        ):
            yield still_mine

    def settle(self) -> None:
        """Make all that was written survive a power cut."""
        self._tables.settle(self._settled)

    def sizes(self, table: str, part: str = "") -> dict[str, int]:
        """Bytes of a table's files, or of those in one of its folders, by name."""
        return self._tables.sizes(table, part)

    def table_names(self) -> list[str]:
        """All tables whose creation was finished.

        Raises:
            StateError: If there is no store.
            DamagedData: If a table has lost its versions.
        """
        return self._tables.names()

    def open_table(self, name: str) -> Any:  # noqa: ANN401
        """A table at its newest version, to read."""
        return self._tables.open(name)

    def writable(self, name: str) -> Any:  # noqa: ANN401  lancedb has no types
        """A table at its newest version, to change; the caller holds `writing`."""
        with self._tables.reached():
            return self.database().open_table(name)

    def clip_table(self, encoder_id: str) -> Any:  # noqa: ANN401
        """The clip table of an encoder at its newest version.

        Raises:
            NotFound: If the encoder has no clips.
        """
        if f"clips_{encoder_id}" not in self.table_names():
            raise NotFound(f"no clips of encoder {encoder_id} are stored: run `semiome encode` first")
        return self.open_table(f"clips_{encoder_id}")

    def database(self) -> Any:  # noqa: ANN401  lancedb has no types
        """The tables as LanceDB writes them; the caller holds `writing`.

        Raises:
            OutOfMemory: If LanceDB does not come to it, see `_connected`.
        """
        with self._tables.reached():
            return _connected(self._tables.address)


def _connected(address: str) -> Any:  # noqa: ANN401
    """A connection, which takes milliseconds.

    Where no memory is left for what LanceDB's own threads need, they end without a word and the call waits for ever.
    """
    connect = _lancedb().connect
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(connect(address))
        except BaseException as error:  # noqa: BLE001  handed on, whatever it is
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(_CONNECTS_WITHIN_S)
    except TimeoutError:
        if not answer.done():
            raise OutOfMemory from None
        raise


def _lancedb() -> Any:  # noqa: ANN401
    """LanceDB, which takes seconds of a processor's time to load: only what writes pays them."""
    import lancedb

    return lancedb
