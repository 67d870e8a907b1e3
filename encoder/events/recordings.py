"""The recordings that events are looked for in: files with the moment that each begins, and how long it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path

from encoder.events.clock import comparable, within_reach
from encoder.job.preflight import look_into
from encoder.manifest import Manifest, ManifestRow, column_problems
from encoder.manifest_cells import read_cell
from encoder.spreadsheet import read_table
from index.errors import InvalidInput, ManifestErrors
from index.processors import usable_cores

_REQUIRED = ("file_name", "patient_id", "recorded_at")
_CARRIED = ("label", "semiology", "split", "camera", "crop", "track")
_OF_ROWS = ("start_s", "end_s", "onset_s", "seizure_end_s", "reason")
"""Columns of a manifest that the import itself fills."""
GAP_S = 1.0
"""Longest time without a picture that is none: clocks are no better."""
_TABLE = "the list of recordings"


@dataclass(frozen=True, slots=True)
class Recording:
    """One file.

    Attributes:
        row: what the list says of it, which the rows that are made of it repeat.
        recording_id: of the recording that it is a part of, or empty.
        begins: when, as `comparable` gives it.
        seconds: how long it is.
    """

    row: ManifestRow
    recording_id: str
    begins: datetime
    seconds: float

    @property
    def ends(self) -> datetime:
        """When it ends."""
        return self.begins + timedelta(seconds=self.seconds)

    def named(self, name: str) -> bool:
        """Whether a list means this file by a name."""
        return name in {
            self.row.file_name,
            Path(self.row.file_name).name,
            Path(self.row.file_name).stem,
            self.row.video_id,
        }


@dataclass(frozen=True, slots=True)
class Recordings:
    """All files, and what a person should know of them.

    Attributes:
        files: by patient and then by time.
        notes: gaps, overlaps and the like.
    """

    files: tuple[Recording, ...]
    notes: tuple[str, ...]


def read_recordings(
    path: Path,
    media_root: Path | None,
    local: tzinfo | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Recordings:
    """Read the list of recordings, and look through each file for how long it is.

    Args:
        path: CSV with `file_name`, `patient_id` and `recorded_at`; `recording_id` joins the files of one recording,
            and whatever else a manifest may hold goes into the rows that are made.
        media_root: the folder that the files lie in or below; the list's own by default.
        local: the zone of times that name none.
        progress: told (files done, in all).

    Raises:
        InvalidInput: If it can't be read.
        ManifestErrors: If something in it is wrong, with all that is.
    """
    try:
        table = read_table(path.read_bytes(), _REQUIRED, _TABLE)
    except OSError as error:
        raise InvalidInput(f"{_TABLE}, {path.name}, can't be read: {error.strerror}") from None
    problems = column_problems(table.columns, _REQUIRED, (*_CARRIED, *_OF_ROWS, "video_id", "recording_id"))
    problems += (
        f"row 1: column {name} belongs to a manifest, where this import writes it: leave it out here"
        for name in _OF_ROWS
        if name in table.columns
    )
    if problems:
        raise ManifestErrors(problems, _TABLE)
    folder = (media_root or path.parent).resolve()
    if not folder.is_dir():
        raise InvalidInput("the media root is not a folder")
    problems = list(table.problems)
    rows: list[tuple[ManifestRow, str, datetime]] = []
    seen: dict[tuple[str, int | None], int] = {}
    for number, cells in table.rows:
        try:
            row, recording_id, begins = _row(number, cells, local)
            if (before := seen.setdefault((row.file_name, row.track), number)) != number:
                raise ValueError(f"column file_name: {row.file_name!r} stands in row {before} too")
            if rows and (begins.tzinfo is None) != (rows[0][2].tzinfo is None):
                raise ValueError(
                    "column recorded_at: some of the recordings' times name an offset from UTC and some don't: say "
                    "with --timezone where the others are from"
                )
            rows.append((row, recording_id, begins))
        except ValueError as error:
            problems.append(f"row {number}, {error}")
    if not table.rows and not problems:
        problems.append("row 1: no rows below the header: expected one for each file")
    if problems:
        raise ManifestErrors(problems, _TABLE)
    looked = look_into(Manifest(folder, tuple(row for row, _, _ in rows)), max(usable_cores() // 2, 1), progress)
    files, notes = [], []
    for (row, recording_id, begins), one in zip(rows, looked, strict=True):
        if one.reason:
            notes.append(f"{row.file_name} can't be used: {one.reason}")
        else:
            files.append(Recording(row, recording_id, begins, one.seconds))
    files.sort(key=lambda file: (file.row.patient_id, file.begins, file.row.file_name))
    return Recordings(tuple(files), (*notes, *_odd(files)))


def _row(number: int, cells: Mapping[str, str], local: tzinfo | None) -> tuple[ManifestRow, str, datetime]:
    values = {}
    for name in (*_REQUIRED, *_CARRIED):
        if name in _REQUIRED or cells.get(name):
            try:
                values[name] = read_cell(name, cells[name])
            except ValueError as error:
                raise ValueError(f"column {name}: {cells[name][:64]!r} is not {error}") from None
    if ":" not in cells["recorded_at"]:
        raise ValueError(
            f"column recorded_at: {cells['recorded_at']!r} has no time of day: a recording begins at a moment"
        )
    try:
        begins = comparable(within_reach(datetime.fromisoformat(str(values["recorded_at"]))), local)
    except ValueError as error:
        raise ValueError(f"column recorded_at: {error}") from None
    others = {*_REQUIRED, *_CARRIED, "video_id"}
    metadata = tuple(sorted((name, value) for name, value in cells.items() if value and name not in others))
    video_id = cells.get("video_id") or f"recording-{number}"
    row = ManifestRow(**values, video_id=video_id, metadata=metadata)  # type: ignore[arg-type]
    return row, cells.get("recording_id", ""), begins


def _odd(files: list[Recording]) -> Iterator[str]:
    """What is worth a look: files whose order is not that of their names, gaps, overlaps, two cameras at once."""
    groups: dict[tuple[str, str, str], list[Recording]] = {}
    for file in files:
        groups.setdefault((file.row.patient_id, file.recording_id, file.row.camera), []).append(file)
    for group in groups.values():
        for one, after in pairwise(group):
            first, second = one.row.file_name, after.row.file_name
            between = (after.begins - one.ends).total_seconds()
            if one.recording_id and first > second:
                yield f"{first} is before {second} by time and after it by name: the times count"
            if between < -GAP_S:
                yield f"{first} and {second} overlap by {-between:.0f} s: an event in both is taken from both"
            elif one.recording_id and between > GAP_S:
                yield f"nothing is recorded between {first} and {second}, for {between:.0f} s"
