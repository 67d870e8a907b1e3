"""Which clip each row of an index is: columns instead of objects, so that a million rows map from disk at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index.errors import DamagedData
from index.phases import ROUNDED_S
from index.records import Clip

_FEW = 16
"""So few clips are sooner looked up one by one."""
_COLUMNS = ("clip_id", "video_id", "patient_id", "clip_index", "start_s", "valid_seconds", "by_id")


class ClipTable:
    """Clips in rows, those of a patient in one run, within it those of a video, in the video's order.

    Never changed after it is made, so threads may share it.

    Attributes:
        video_of_row: (N,) number of each row's video, not decreasing.
        patient_of_row: (N,) number of each row's patient, not decreasing.
        video_ids: ids by number.
        patient_ids: ids by number.
    """

    def __init__(self, columns: pa.Table) -> None:
        """Take columns as `read` finds them or `of_columns` makes them.

        Raises:
            DamagedData: If they are not those of clips in order.
        """
        if tuple(columns.column_names) != _COLUMNS:
            raise DamagedData("the clips of an index have other columns than expected: build the index again")
        self._columns = columns
        self._clip_id = _chunk(columns, "clip_id")
        video, patient = _chunk(columns, "video_id"), _chunk(columns, "patient_id")
        self.video_ids: list[str] = video.dictionary.to_pylist()
        self.patient_ids: list[str] = patient.dictionary.to_pylist()
        self.video_of_row: NDArray[np.int32] = video.indices.to_numpy()
        self.patient_of_row: NDArray[np.int32] = patient.indices.to_numpy()
        self._by_id: NDArray[np.int32] = _chunk(columns, "by_id").to_numpy()
        self._numbers = tuple(_chunk(columns, name).to_numpy() for name in ("clip_index", "start_s", "valid_seconds"))
        self._fixed = _of_one_length(self._clip_id)
        self._video_starts = _starts(self.video_of_row, len(self.video_ids))
        self._patient_starts = _starts(self.patient_of_row, len(self.patient_ids))
        self._video_number = {name: number for number, name in enumerate(self.video_ids)}
        self._patient_number = {name: number for number, name in enumerate(self.patient_ids)}

    @classmethod
    def of_columns(cls, rows: pa.Table) -> ClipTable:
        """From the clip table's columns, sorted by patient, video and clip number."""
        order = pc.sort_indices(rows.column("clip_id")).cast(pa.int32())
        arrays = {name: rows.column(name).combine_chunks() for name in _COLUMNS[:-1]}
        for name in ("video_id", "patient_id"):
            arrays[name] = arrays[name].dictionary_encode()
        return cls(pa.table({**arrays, "by_id": order}))

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> ClipTable:
        """From clips sorted by patient, video and clip number."""
        kinds = (pa.string(), pa.string(), pa.string(), pa.int32(), pa.float64(), pa.float64())
        names = _COLUMNS[:-1]
        return cls.of_columns(
            pa.table(
                {
                    name: pa.array([getattr(clip, name) for clip in clips], kind)
                    for name, kind in zip(names, kinds, strict=True)
                }
            )
        )

    def without_patients(self, patient_ids: Set[str]) -> ClipTable:
        """The rows of all other patients; neither rows nor names of these are left."""
        numbers = [number for number, name in enumerate(self.patient_ids) if name in patient_ids]
        rows = self._columns.filter(pa.array(~np.isin(self.patient_of_row, numbers)))
        plain = {name: rows.column(name).cast(pa.string()) for name in ("video_id", "patient_id")}
        return ClipTable.of_columns(pa.table({name: plain.get(name, rows.column(name)) for name in _COLUMNS[:-1]}))

    @classmethod
    def read(cls, path: Path) -> ClipTable:
        """Map a file that `write` made and whose digest has been checked."""
        with pa.memory_map(str(path)) as source:
            return cls(pa.ipc.open_file(source).read_all())

    def write(self, path: Path) -> None:
        """Write it as an Arrow file."""
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._columns.schema) as writer:
            writer.write_table(self._columns, max_chunksize=max(len(self), 1))

    def __len__(self) -> int:
        return len(self._clip_id)

    def __getitem__(self, row: int) -> Clip:
        index, start, valid = (column[row] for column in self._numbers)
        return Clip(
            clip_id=self._clip_id[row].as_py(),
            video_id=self.video_ids[self.video_of_row[row]],
            patient_id=self.patient_ids[self.patient_of_row[row]],
            clip_index=int(index),
            start_s=float(start),
            valid_seconds=float(valid),
        )

    def clips(self, rows: NDArray[np.int64]) -> list[Clip]:
        """Those of these rows, in their order; sooner done than one by one."""
        ids = self._clip_id.take(pa.array(rows)).to_pylist()
        videos, patients = self.video_of_row[rows].tolist(), self.patient_of_row[rows].tolist()
        numbers = (column[rows].tolist() for column in self._numbers)
        return [
            Clip(clip_id, self.video_ids[video], self.patient_ids[patient], index, start, valid)
            for clip_id, video, patient, index, start, valid in zip(ids, videos, patients, *numbers, strict=True)
        ]

    def clip_indexes(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Number of each of these rows' clips in its video."""
        numbers: NDArray[np.int32] = self._numbers[0][rows]
        return numbers

    def spans(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """(2, N) seconds after the video begins, when each of these rows' clips begins and ends."""
        begins = self._numbers[1][rows]
        return np.stack([begins, begins + self._numbers[2][rows]])

    @cached_property
    def overlap(self) -> int:
        """How many of the clips before a clip it overlaps with, at most."""
        (begins, ends), videos = self.spans(slice(None)), self.video_of_row
        for before in range(1, len(self) + 1):
            same = videos[before:] == videos[:-before]
            if not (same & (begins[before:] < ends[:-before] - ROUNDED_S)).any():
                return before - 1
        return 0

    def __iter__(self) -> Iterator[Clip]:
        return (self[row] for row in range(len(self)))

    @property
    def clip_ids(self) -> pa.Array:
        """(N,) of all rows."""
        return self._clip_id

    def row_of(self, clip_id: str) -> int | None:
        """The row of a clip."""
        if self._fixed is not None:
            fixed, text = self._fixed, clip_id.encode("utf-8", "surrogatepass")
            at = bisect_left(self._by_id, text, key=lambda row: fixed[row])
        else:
            at = bisect_left(self._by_id, clip_id, key=lambda row: self._clip_id[int(row)].as_py())
        if at < len(self):
            row = int(self._by_id[at])
            if self._clip_id[row].as_py() == clip_id:
                return row
        return None

    def rows_of(self, clip_ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each of these clips, -1 where it is not here; sooner done than one by one."""
        if self._fixed is None or len(clip_ids) < _FEW:
            rows = map(self.row_of, clip_ids)
            return np.array([-1 if row is None else row for row in rows], np.int64)
        texts = [clip_id.encode("utf-8", "surrogatepass") for clip_id in clip_ids]
        width = self._fixed.itemsize  # an id of any other length is not here, and a long one must not widen all
        wanted = np.array([text if len(text) == width else b"" for text in texts], np.bytes_)
        low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), len(self))
        while (searching := low < high).any():
            middle = (low + high) // 2
            less = self._fixed[self._by_id[np.minimum(middle, len(self) - 1)]] < wanted
            low, high = np.where(searching & less, middle + 1, low), np.where(searching & ~less, middle, high)
        found = self._by_id[np.minimum(low, len(self) - 1)].astype(np.int64)
        lengths = np.array([len(text) for text in texts], np.int64)  # NumPy knows no zero bytes at the end
        found[(self._fixed[found] != wanted) | (lengths != self._fixed.itemsize)] = -1
        return found

    def missing_from(self, clip_ids: pa.Array) -> NDArray[np.int64]:
        """The rows of all clips that are not among these."""
        there = pc.is_in(self._clip_id, clip_ids).to_numpy(zero_copy_only=False)
        return np.flatnonzero(~there)

    def rows_of_video(self, video_id: str) -> range:
        """All rows of a video, in its order; empty where there are none."""
        return _run(self._video_starts, self._video_number.get(video_id))

    def rows_of_patient(self, patient_id: str) -> range:
        """All rows of a patient; empty where there are none."""
        return _run(self._patient_starts, self._patient_number.get(patient_id))


def _chunk(columns: pa.Table, name: str) -> pa.Array:
    column = columns.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _of_one_length(strings: pa.Array) -> NDArray[np.bytes_] | None:
    """A view of an Arrow array's strings, where they are ASCII of one length, as clip ids are."""
    _, offsets, text = strings.buffers()
    ends = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1]
    length = int(ends[1] - ends[0]) if len(strings) else 0
    if not length or (np.diff(ends) != length).any():
        return None
    return np.frombuffer(text, f"S{length}", len(strings), int(ends[0]))


def _starts(numbers: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Where the run of each number begins, and the end of the last."""
    steps = np.diff(numbers)
    if len(numbers) and (numbers[0] != 0 or numbers[-1] != count - 1 or ((steps != 0) & (steps != 1)).any()):
        raise DamagedData("the clips of an index are not in order: build the index again")
    return np.searchsorted(numbers, np.arange(count + 1)).astype(np.int64)


def _run(starts: NDArray[np.int64], number: int | None) -> range:
    return range(0) if number is None else range(int(starts[number]), int(starts[number + 1]))
