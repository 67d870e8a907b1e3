"""Rows for parts of files: how they are cut, and what comes of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo

from encoder.clips import MIN_CLIP_SECONDS
from encoder.events.annotations import LeftOut
from encoder.events.clock import shown
from encoder.events.recordings import Recording
from encoder.manifest import ManifestRow
from index.errors import InvalidInput
from index.records import BACKGROUND

_HOUR_S = 3600.0
_FURTHEST_CLOCK_S = 3.2e9
_MOST_BACKGROUND = 360


@dataclass(frozen=True, slots=True)
class Choices:
    """How rows are made.

    Attributes:
        local: zone of times that name none.
        clock_ahead_s: how far the clock of the lists is ahead of that of the recordings.
        lead_s: seconds before a seizure.
        tail_s: seconds after it.
        length_s: of a seizure that nothing gives an end; None to leave it out.
        background: rows an hour of recording, far from any event.
        background_s: seconds of such a row.
    """

    local: tzinfo | None = None
    clock_ahead_s: float = 0.0
    lead_s: float = 10.0
    tail_s: float = 20.0
    length_s: float | None = None
    background: float = 0.0
    background_s: float = 60.0

    def __post_init__(self) -> None:
        if not (0 <= self.lead_s <= _HOUR_S and 0 <= self.tail_s <= _HOUR_S):
            raise InvalidInput("expected a lead and a tail of 0 to 3600 seconds")
        if self.length_s is not None and not 0 < self.length_s <= _HOUR_S:
            raise InvalidInput("expected a length above 0 and up to 3600 seconds")
        if not 0 <= self.background <= _MOST_BACKGROUND or self.background_s < MIN_CLIP_SECONDS:
            raise InvalidInput(
                f"expected 0 to {_MOST_BACKGROUND} rows of background an hour, each of at least a second"
            )
        if not abs(self.clock_ahead_s) <= _FURTHEST_CLOCK_S:
            raise InvalidInput("expected clocks that differ by at most a hundred years, in seconds")


@dataclass(slots=True)
class MadeRows:
    """Rows, and what gives none.

    Attributes:
        rows: by patient and time.
        background: of these, how many hold no event.
        left_out: lines that give none.
        notes: what a person should know, each once.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    background: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cut(
    row: ManifestRow,
    start_s: float,
    end_s: float,
    at_s: float,
    begins: datetime | None = None,
    local: tzinfo | None = None,
) -> ManifestRow:
    """A row for a part of a file, with an id that is the same whenever what is at that second is imported.

    Args:
        row: of the file; of a video in two, the part may be in both, or in the second, and then has that one's seconds.
        start_s: where the part begins, in seconds of the file.
        end_s: where it ends.
        at_s: where what it is about begins.
        begins: when the file begins, as `comparable` gives it; None where the row does not say.
        local: the zone of times that name none.
    """
    if (border := row.continues_at_s) is not None and not start_s < border < end_s:
        name = row.continues_in if start_s >= border else row.file_name
        row = replace(row, continues_in="", continues_at_s=None, file_name=name)
        if start_s >= border:  # its times are the second file's
            begins = None if begins is None else begins + timedelta(seconds=border)
            start_s, end_s, at_s = start_s - border, end_s - border, at_s - border
    key = f"{row.patient_id}\0{row.file_name}\0{row.track}\0{at_s:.3f}"
    name = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    recorded_at = row.recorded_at
    if begins is not None:
        recorded_at = shown(begins + timedelta(seconds=start_s), row.recorded_at, local)
    times = {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}
    return replace(row, video_id=f"{row.patient_id[:48]}-{name}", recorded_at=recorded_at, **times)  # type: ignore[arg-type]


def quiet_row(row: ManifestRow) -> ManifestRow:
    """The row as one of background."""
    return replace(row, label="", semiology=(), metadata=tuple(sorted({*row.metadata, BACKGROUND})))


def seconds_in(file: Recording, at: datetime) -> float:
    """Seconds after the file's first frame."""
    return round((at - file.begins).total_seconds(), 3)
