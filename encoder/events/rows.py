"""Seizures and background of recordings to rows of a manifest."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta, tzinfo

from encoder.clips import MIN_CLIP_SECONDS
from encoder.events.annotations import Annotation, Annotations, Kind, LeftOut
from encoder.events.clock import comparable, on_day_of
from encoder.events.recordings import Recording
from encoder.events.seizures import Seizure, seizures
from encoder.manifest import ManifestRow
from index.errors import InvalidInput

_FAR_S = 300.0
"""Background keeps this far from whatever a list mentions, understood or not."""
_DAY_S = 86_400.0
_TRIES = 200


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
        if min(self.lead_s, self.tail_s, self.background) < 0 or self.background_s < MIN_CLIP_SECONDS:
            raise InvalidInput("expected a lead, tail and background of 0 or more, and background rows of at least 1 s")
        if self.length_s is not None and self.length_s <= 0:
            raise InvalidInput("expected a length above 0 s")


@dataclass(slots=True)
class MadeRows:
    """Rows, and what gives none.

    Attributes:
        rows: by patient and time.
        background: of these, how many hold no event.
        left_out: lines that give none.
        notes: what a person should know.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    background: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_rows(annotations: Annotations, files: Sequence[Recording], choices: Choices) -> MadeRows:
    """A row for each seizure in each file that shows it, and background.

    Args:
        annotations: what the lists say.
        files: of all recordings.
        choices: how rows are made.
    """
    made = MadeRows(left_out=list(annotations.left_out), notes=list(annotations.notes))
    marks: dict[str, list[tuple[Annotation, datetime]]] = defaultdict(list)
    busy: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    labels: dict[str, set[str]] = defaultdict(set)
    for annotation in annotations.understood:
        if annotation.kind == Kind.SIGN and not annotation.semiology:  # what a video is, without a time
            labels[annotation.recording].add(annotation.label)
            continue
        try:
            patient, at = _placed(annotation, files, choices)
        except ValueError as error:
            made.left_out.append(LeftOut(annotation.place, str(error)))
            continue
        if annotation.kind == Kind.PASSED_OVER:
            continue
        if annotation.kind != Kind.UNKNOWN:
            marks[patient].append((annotation, at))
        busy[patient].append((at, at + timedelta(seconds=annotation.duration_s or 0)))
    files = [_labelled(file, labels, made) for file in files]
    for patient, theirs in sorted(marks.items()):
        found, left_out = seizures(theirs, choices.length_s)
        made.left_out += left_out
        for seizure in found:
            _add(seizure, [file for file in files if file.row.patient_id == patient], choices, made)
            busy[patient].append((seizure.begins, seizure.end or seizure.begins))
    if choices.background:
        background = [row for file in files for row in _background(file, busy[file.row.patient_id], choices)]
        made.background = len(background)
        made.rows += background
    made.rows.sort(key=lambda row: (row.patient_id, row.recorded_at, row.file_name, row.start_s))
    return made


def _labelled(file: Recording, by_name: Mapping[str, set[str]], made: MadeRows) -> Recording:
    """A recording with the label that people gave it, where they agree."""
    labels = {label for name, given in by_name.items() if file.named(name) for label in given}
    if len(labels) > 1:
        made.notes.append(f"{file.row.file_name} was called {' and '.join(sorted(labels))}: it gets neither label")
    return replace(file, row=replace(file.row, label=labels.pop())) if len(labels) == 1 else file


def _placed(annotation: Annotation, files: Sequence[Recording], choices: Choices) -> tuple[str, datetime]:
    """Whose an annotation is, and when it was by the recordings' clock.

    Raises:
        ValueError: If that can't be told.
    """
    theirs = _of_patient(annotation, files)
    if annotation.offset_s is not None:
        named = [file for file in theirs if not annotation.recording or file.named(annotation.recording)]
        if len(named) != 1:
            which = "the list has several: name one in a column" if named else "the list has none of that name"
            raise ValueError(f"its time counts from the beginning of a recording, and {which}")
        return named[0].row.patient_id, named[0].begins + timedelta(seconds=annotation.offset_s)
    ahead = timedelta(seconds=choices.clock_ahead_s)
    patient = theirs[0].row.patient_id
    if isinstance(annotation.at, time):
        moments = {_by_day(annotation.at, file, choices.local) - ahead for file in theirs if file.seconds <= _DAY_S}
        inside = {at for at in moments if any(file.begins <= at < file.ends for file in theirs)}
        if len(inside) > 1:
            raise ValueError("its time of day fits recordings of several days: give the date")
        if not inside:
            raise ValueError("no recording of the patient shows that time of day")
        return patient, inside.pop()
    if annotation.at is None:
        raise ValueError("it has no time")
    at = comparable(annotation.at, choices.local)
    if (at.tzinfo is None) != (theirs[0].begins.tzinfo is None):
        raise ValueError(
            "one of its time and the recording's names a time zone: give that of the other with --timezone"
        )
    return patient, at - ahead


def _of_patient(annotation: Annotation, files: Sequence[Recording]) -> list[Recording]:
    """The recordings of an annotation's patient."""
    patients = {file.row.patient_id for file in files}
    named = {file.row.patient_id for file in files if annotation.recording and file.named(annotation.recording)}
    said = annotation.patient_id
    bare = said.removeprefix("sub-")
    whose = {name for name in (said, bare) if name in patients} or (set() if said else named or patients)
    if len(whose) != 1:
        raise ValueError(
            f"the list of recordings has no patient {said[:64]!r}"
            if said
            else "nothing says whose it is: give --patient, or a column for it"
        )
    return [file for file in files if file.row.patient_id in whose]


def _by_day(clock: time, file: Recording, local: tzinfo | None) -> datetime:
    return on_day_of(clock, file.begins, local)


def _add(seizure: Seizure, files: Sequence[Recording], choices: Choices, made: MadeRows) -> None:
    begins, end = seizure.begins, seizure.end or seizure.begins
    showing = [file for file in files if file.begins <= begins < file.ends]
    if not showing:
        made.left_out += (LeftOut(place, _outside(begins, files)) for place in seizure.places)
        return
    if len(showing) > 1:
        names = ", ".join(file.row.file_name for file in showing)
        made.notes.append(f"{seizure.places[0]}: {names} show it at the same time: each gives a row")
    for file in showing:
        rest = f"{seizure.places[0]}: {file.row.file_name} ends before the seizure does: the row has its part of it"
        if end > file.ends:
            made.notes.append(rest)
        start_s = max(_in(file, begins) - choices.lead_s, 0.0)
        end_s = min(_in(file, end) + choices.tail_s, file.seconds)
        if end_s - start_s < MIN_CLIP_SECONDS:
            made.left_out += (
                LeftOut(place, f"less than a second of it is in {file.row.file_name}") for place in seizure.places
            )
            continue
        onset_s = None if seizure.onset is None else _within(_in(file, seizure.onset), start_s, end_s)
        seizure_end_s = _within(_in(file, end), start_s, end_s)
        metadata = dict(file.row.metadata)
        for kind, at in seizure.marks.items():
            if seizure.onset != at:
                metadata[f"{kind.value}_s"] = f"{_in(file, at):.3f}"
        row = _cut(file, start_s, end_s, begins)
        made.rows.append(
            replace(
                row,
                label=seizure.label or row.label,
                semiology=tuple(sorted({*row.semiology, *seizure.semiology})),
                onset_s=onset_s,
                seizure_end_s=seizure_end_s,
                metadata=tuple(sorted(metadata.items())),
            )
        )


def _cut(file: Recording, start_s: float, end_s: float, at: datetime) -> ManifestRow:
    """A row for a part of a file, with an id that is the same whenever the same part is imported."""
    key = f"{file.row.patient_id}\0{file.row.file_name}\0{file.row.track}\0{at.isoformat()}"
    name = hashlib.blake2b(key.encode(), digest_size=4).hexdigest()
    recorded = datetime.fromisoformat(file.row.recorded_at) + timedelta(seconds=start_s)
    video_id = f"{file.row.patient_id[:48]}-{name}"
    start_s, end_s = round(start_s, 3), round(end_s, 3)
    recorded_at = recorded.isoformat(timespec="seconds")
    return replace(file.row, video_id=video_id, recorded_at=recorded_at, start_s=start_s, end_s=end_s)


def _background(file: Recording, busy: Sequence[tuple[datetime, datetime]], choices: Choices) -> Iterator[ManifestRow]:
    """Parts of a file that are far from everything that is mentioned, the same ones each time."""
    wanted = round(choices.background * file.seconds / 3600)
    last = file.seconds - choices.background_s
    taken = [(_in(file, begin) - _FAR_S, _in(file, end) + _FAR_S) for begin, end in busy]
    chance = random.Random(f"{file.row.patient_id} {file.row.file_name}")  # noqa: S311  no secret
    for _ in range(_TRIES * wanted):
        if not wanted or last < 0:
            return
        start = round(chance.uniform(0, last), 1)
        end = start + choices.background_s
        if any(start < high and low < end for low, high in taken):
            continue
        taken.append((start, end))
        wanted -= 1
        row = _cut(file, start, end, file.begins + timedelta(seconds=start))
        yield replace(row, label="", semiology=(), metadata=(*row.metadata, ("background", "yes")))


def _in(file: Recording, at: datetime) -> float:
    """Seconds after the file's first frame."""
    return round((at - file.begins).total_seconds(), 3)


def _within(seconds: float, start_s: float, end_s: float) -> float | None:
    return seconds if start_s <= seconds <= end_s else None


def _outside(at: datetime, files: Sequence[Recording]) -> str:
    nearest = min(files, key=lambda file: min(abs(file.begins - at), abs(file.ends - at)))
    begins, ends = (moment.isoformat(" ", timespec="seconds") for moment in (nearest.begins, nearest.ends))
    return (
        f"no recording of the patient shows {at.isoformat(' ', timespec='seconds')}; the nearest, "
        f"{nearest.row.file_name}, is from {begins} to {ends}: check the date, the time zone and the clock's offset"
    )
