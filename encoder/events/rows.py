"""Seizures and background of recordings to rows of a manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta

from encoder.clips import MIN_CLIP_SECONDS
from encoder.events.annotations import Annotation, Annotations, Kind, LeftOut
from encoder.events.background import add_background, add_what_looks_like_one
from encoder.events.clock import comparable, on_day_of
from encoder.events.cuts import Choices, MadeRows, cut, seconds_in
from encoder.events.recordings import GAP_S, Recording
from encoder.events.seizures import LONG_S, Seizure, seizures

_DAY_S = 86_400.0


class _Elsewhere(ValueError):
    """An annotation that no recording of the list can show."""


def make_rows(annotations: Annotations, files: Sequence[Recording], choices: Choices) -> MadeRows:
    """A row for each seizure in each file that shows it, and background.

    Args:
        annotations: what the lists say.
        files: of all recordings.
        choices: how rows are made.
    """
    made = MadeRows(left_out=list(annotations.left_out), notes=list(annotations.notes))
    marks: dict[str, list[tuple[Annotation, datetime]]] = defaultdict(list)
    quiet: dict[str, list[tuple[Annotation, datetime]]] = defaultdict(list)
    busy: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    labels: dict[str, set[str]] = defaultdict(set)
    undated = set(annotations.undated)
    for annotation in annotations.understood:
        if annotation.kind == Kind.SIGN and not annotation.semiology:  # what a video is, without a time
            labels[annotation.recording].add(annotation.label)
            continue
        try:
            patient, at, duration_s = _placed(annotation, files, choices, made.notes)
        except ValueError as error:
            if annotation.kind not in {Kind.UNKNOWN, Kind.PASSED_OVER}:
                made.left_out.append(LeftOut(annotation.place, str(error)))
            if annotation.kind != Kind.PASSED_OVER and not isinstance(error, _Elsewhere):
                undated.add(annotation.patient_id)
            continue
        if annotation.kind == Kind.PASSED_OVER:
            continue
        if annotation.kind == Kind.SIGN and (duration_s or 0) > LONG_S:
            reason = "a sign that lasts for more than ten minutes does not say when the seizure is"
            made.left_out.append(LeftOut(annotation.place, f"{reason}: give it the stretch in which it is seen"))
            continue
        if annotation.kind != Kind.UNKNOWN:
            there = quiet if annotation.kind == Kind.NOT_A_SEIZURE else marks
            there[patient].append((replace(annotation, duration_s=duration_s), at))
        busy[patient].append((at, at + timedelta(seconds=duration_s or 0)))
    files = [_labelled(file, labels, made) for file in files]
    by_patient: dict[str, list[Recording]] = defaultdict(list)
    for file in files:
        by_patient[file.row.patient_id].append(file)
    for patient, theirs in sorted(marks.items()):
        found, left_out, notes = seizures(theirs, choices.length_s)
        made.left_out += left_out
        made.notes += notes
        for seizure in found:
            _add(seizure, by_patient[patient], choices, made)
            busy[patient].append((seizure.begins, seizure.end or seizure.begins))
        add_what_looks_like_one(quiet.pop(patient, []), found, by_patient[patient], choices, made)
    for patient, theirs in sorted(quiet.items()):
        add_what_looks_like_one(theirs, [], by_patient[patient], choices, made)
    if choices.background:
        add_background(files, busy, undated, choices, made)
    made.rows.sort(key=lambda row: (row.patient_id, row.recorded_at, row.file_name, row.start_s))
    made.notes = list(dict.fromkeys(made.notes))
    return made


def _labelled(file: Recording, by_name: Mapping[str, set[str]], made: MadeRows) -> Recording:
    """A recording with the label that people gave it, where they agree."""
    labels = {label for name, given in by_name.items() if file.named(name) for label in given}
    if len(labels) > 1:
        made.notes.append(f"{file.row.file_name} was called {' and '.join(sorted(labels))}: it gets neither label")
    return replace(file, row=replace(file.row, label=labels.pop())) if len(labels) == 1 else file


def _placed(
    annotation: Annotation, files: Sequence[Recording], choices: Choices, notes: list[str]
) -> tuple[str, datetime, float | None]:
    """Whose an annotation is, when it was by the recordings' clock, and how long it lasted.

    Raises:
        ValueError: If that can't be told.
    """
    theirs = _of_patient(annotation, files)
    named = [file for file in theirs if annotation.recording and file.named(annotation.recording)]
    if annotation.offset_s is not None:
        meant = named if annotation.recording else theirs
        if len(meant) != 1:
            if not meant:
                raise _Elsewhere("the list of recordings has none of the name that this line counts its time in")
            raise ValueError("its time counts from the beginning of a recording, and there are several: name one")
        at = meant[0].begins + timedelta(seconds=annotation.offset_s)
        return meant[0].row.patient_id, at, annotation.duration_s
    patient = theirs[0].row.patient_id
    ahead = timedelta(seconds=choices.clock_ahead_s)
    if isinstance(annotation.at, time):
        at = _day_of(annotation.at, named or theirs, choices)
    elif annotation.at is not None:
        at = comparable(annotation.at, choices.local)
        _same_kind(at, theirs[0].begins)
    else:
        raise ValueError("it has no time")
    duration_s = annotation.duration_s if annotation.until is None else _lasts(at, annotation.until, choices)
    if annotation.recording and not named:
        notes.append(
            f"{annotation.place.rpartition(', ')[0]} names recordings that the list of recordings does not have: where "
            "a line has a time, that alone says which file shows it"
        )
    elif named and not any(file.begins <= at - ahead < file.ends for file in named):
        raise ValueError("its time is not within the recording that it names")
    return patient, at - ahead, duration_s


def _day_of(clock: time, files: Sequence[Recording], choices: Choices) -> datetime:
    """When a clock showed a time of day while something was recorded."""
    ahead = timedelta(seconds=choices.clock_ahead_s)
    inside = set()
    for file in files:
        if file.seconds <= _DAY_S:
            at = on_day_of(clock, file.begins + ahead, choices.local)
            inside |= {at} if any(one.begins <= at - ahead < one.ends for one in files) else set()
    if len(inside) > 1:
        raise ValueError("its time of day fits recordings of several days: give the date")
    if not inside:
        raise _Elsewhere("no recording of the patient shows that time of day")
    return inside.pop()


def _lasts(begins: datetime, until: datetime | time, choices: Choices) -> float:
    """Seconds from a moment to a later one; a time of day is the next that a clock shows."""
    if isinstance(until, time):
        end = on_day_of(until, begins, choices.local)
    else:
        end = comparable(until, choices.local)
        _same_kind(end, begins)
    seconds = (end - begins).total_seconds()
    if seconds <= 0:
        raise ValueError("it ends before it begins")
    if seconds > _DAY_S / 2:
        raise ValueError("it ends before it begins, or lasts for more than half a day")
    return seconds


def _same_kind(at: datetime, other: datetime) -> None:
    if (at.tzinfo is None) != (other.tzinfo is None):
        raise ValueError(
            "one of its time and the recording's names a time zone: give that of the other with --timezone"
        )


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
            if not annotation.recording
            else f"the list of recordings has no {annotation.recording[:64]!r}, and nothing says whose it is: list "
            "it; `semiome feedback rows` makes rows of events that were saved on parts of files"
        )
    if named and not whose & named:
        raise ValueError("the recording that it names is of another patient")
    return [file for file in files if file.row.patient_id in whose]


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
        then = _next(file, files) if end > file.ends else None
        last_s = file.seconds
        if then is not None and then.begins < end:
            last_s = seconds_in(file, then.ends)
            if (gap := (then.begins - file.ends).total_seconds()) > GAP_S:
                made.notes.append(f"{seizure.places[0]}: nothing is recorded for {gap:.0f} s of the seizure")
        else:
            then = None
        if end > (then or file).ends:
            name = (then or file).row.file_name
            made.notes.append(f"{seizure.places[0]}: {name} ends before the seizure does: the row has its part of it")
        start_s = max(seconds_in(file, begins) - choices.lead_s, 0.0)
        end_s = min(seconds_in(file, end) + choices.tail_s, last_s)
        if end_s - start_s < MIN_CLIP_SECONDS:
            made.left_out += (
                LeftOut(place, f"less than a second of it is in {file.row.file_name}") for place in seizure.places
            )
            continue
        onset_s = None if seizure.onset is None else _within(seconds_in(file, seizure.onset), start_s, end_s)
        onset_s = None if onset_s == end_s else onset_s
        seizure_end_s = _within(seconds_in(file, end), start_s, end_s)
        metadata = dict(file.row.metadata)
        for kind, at in seizure.marks.items():
            if seizure.onset != at:
                metadata[f"{kind.value}_s"] = f"{seconds_in(file, at):.3f}"
        whole = file.row
        if then is not None:
            at_s = round(seconds_in(file, then.begins), 3)
            whole = replace(whole, continues_in=then.row.file_name, continues_at_s=at_s)
        row = cut(whole, start_s, end_s, seconds_in(file, seizure.onset or begins), file.begins, choices.local)
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


def _within(seconds: float, start_s: float, end_s: float) -> float | None:
    return seconds if start_s <= seconds <= end_s else None


def _next(file: Recording, files: Sequence[Recording]) -> Recording | None:
    """The file in which a recording goes on, of the same camera."""
    later = (
        other
        for other in files
        if other.recording_id == file.recording_id
        and (other.row.camera, other.row.track) == (file.row.camera, file.row.track)
        and other.begins > file.begins
    )
    return min(later, key=lambda other: other.begins, default=None) if file.recording_id else None


def _outside(at: datetime, files: Sequence[Recording]) -> str:
    nearest = min(files, key=lambda file: min(abs(file.begins - at), abs(file.ends - at)))
    begins, ends = (moment.isoformat(" ", timespec="seconds") for moment in (nearest.begins, nearest.ends))
    return (
        f"no recording of the patient shows {at.isoformat(' ', timespec='seconds')}; the nearest, "
        f"{nearest.row.file_name}, is from {begins} to {ends}: check the date, the time zone and the clock's offset"
    )
