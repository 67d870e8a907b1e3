"""Rows in which nothing happens: far from every event, or where something only looks like a seizure."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from encoder.clips import MIN_CLIP_SECONDS
from encoder.events.annotations import Annotation, LeftOut
from encoder.events.cuts import Choices, MadeRows, cut, quiet_row, seconds_in
from encoder.events.recordings import Recording
from encoder.events.seizures import Seizure
from encoder.manifest import ManifestRow
from index.words import counted

_FAR_S = 300.0
"""Background keeps this far from whatever a list mentions, understood or not."""
_HOUR_S = 3600.0
_TRIES = 200


def add_background(
    files: Sequence[Recording],
    busy: Mapping[str, Sequence[tuple[datetime, datetime]]],
    undated: set[str],
    choices: Choices,
    made: MadeRows,
) -> None:
    """Background of all files whose patient has no line that may lie anywhere."""
    hours: dict[str, float] = defaultdict(float)
    for file in files:
        patient = file.row.patient_id
        if undated & {patient, f"sub-{patient}", ""}:
            made.notes.append(f"no background of {patient}: lines were left out whose time can't be told")
            continue
        before = round(choices.background * hours[patient])
        hours[patient] += file.seconds / _HOUR_S
        wanted = round(choices.background * hours[patient]) - before
        rows = list(_background(file, wanted, busy[patient], choices))
        if len(rows) < wanted:
            made.notes.append(
                f"{len(rows)} of {counted(wanted, 'row')} of background from {file.row.file_name}: all else is less "
                "than five minutes from an event"
            )
        made.background += len(rows)
        made.rows += rows


def _background(
    file: Recording, wanted: int, busy: Sequence[tuple[datetime, datetime]], choices: Choices
) -> Iterator[ManifestRow]:
    """Parts of a file that are far from everything that is mentioned, the same ones each time."""
    last = file.seconds - choices.background_s
    taken = [(seconds_in(file, begin) - _FAR_S, seconds_in(file, end) + _FAR_S) for begin, end in busy]
    chance = random.Random(f"{file.row.patient_id} {file.row.file_name}")  # noqa: S311  no secret
    for _ in range(wanted if last >= 0 else 0):
        for _ in range(_TRIES):
            start = round(chance.uniform(0, last), 1)
            end = start + choices.background_s
            if not any(start < high and low < end for low, high in taken):
                break
        else:
            return
        taken.append((start, end))
        yield quiet_row(cut(file.row, start, end, start, file.begins, choices.local))


def add_what_looks_like_one(
    marks: Sequence[tuple[Annotation, datetime]],
    found: Sequence[Seizure],
    files: Sequence[Recording],
    choices: Choices,
    made: MadeRows,
) -> None:
    """Rows of background for what looks like a seizure and is none: just what was marked, without lead and tail."""
    for annotation, begins in marks:
        end = begins + timedelta(seconds=annotation.duration_s or 0)
        showing = [file for file in files if file.begins <= begins < file.ends]
        reason = ""
        if any(begins < (one.end or one.begins) and one.begins < end for one in found):
            reason = "it is said to be no seizure, and another line has one at that time: decide which is right"
        elif not showing:
            reason = "no recording of the patient shows it"
        elif (end - begins).total_seconds() < MIN_CLIP_SECONDS:
            reason = "nothing says when it ends: give it an end or a duration of a second or more"
        if reason:
            made.left_out.append(LeftOut(annotation.place, reason))
            continue
        for file in showing:
            start_s, end_s = seconds_in(file, begins), min(seconds_in(file, end), file.seconds)
            if end_s - start_s >= MIN_CLIP_SECONDS:
                made.rows.append(quiet_row(cut(file.row, start_s, end_s, start_s, file.begins, choices.local)))
                made.background += 1
