"""Events that people saved on the review page to rows of a manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from encoder.clips import MIN_CLIP_SECONDS
from encoder.events.annotations import LeftOut
from encoder.events.cuts import Choices, MadeRows, cut, quiet_row
from encoder.manifest import Manifest, ManifestRow
from index.feedback.statement import NOT_A_SEIZURE, Feedback
from index.records import BACKGROUND, Video
from index.tables.recording import file_begins

_TO_NOBODY = "no row of the manifest is this video"


def rows_of_events(
    said: Iterable[Feedback], manifest: Manifest, videos: Mapping[str, Video], choices: Choices
) -> MadeRows:
    """A row for each stretch that people call a seizure, and one of background for each that they say is none.

    Statements about the same stretch, of which the shorter lies in the other by more than half, are one event. Each
    author's newest counts, and the newest of all says when it begins and ends.

    Args:
        said: what people have said; all but events is passed over.
        manifest: the videos that were encoded.
        videos: stored ones, by id.
        choices: the lead and the tail of rows.
    """
    made, listed = MadeRows(), {row.video_id: row for row in manifest.rows}
    events: dict[str, list[Feedback]] = defaultdict(list)
    for one in said:
        if one.event:
            events[one.video_id].append(one)
    for video_id, theirs in sorted(events.items()):
        row, video = listed.get(video_id), videos.get(video_id)
        if row is None or video is None or row.start_s != video.start_s:
            reason = _TO_NOBODY if row is None else "the manifest's row is another part of the file than is stored"
            made.left_out += (LeftOut(_place(one), reason) for one in theirs)
            continue
        for event in _events(theirs):
            _add(event, row, video, choices, made)
    made.rows.sort(key=lambda row: (row.patient_id, row.file_name, row.start_s))
    return made


def _events(said: Iterable[Feedback]) -> list[list[Feedback]]:
    """Statements about the same stretch together, each author's newest, oldest first."""
    events: list[dict[str, Feedback]] = []
    for one in sorted(said, key=lambda one: (one.at, one.feedback_id)):
        same = next((event for event in events if any(_same(one, other) for other in event.values())), None)
        if same is None:
            events.append({one.author: one})
        else:
            same.pop(one.author, None)
            same[one.author] = one
    return [list(event.values()) for event in events]


def _same(one: Feedback, other: Feedback) -> bool:
    shared = min(one.end_s, other.end_s) - max(one.start_s, other.start_s)
    return 2 * shared > min(one.end_s - one.start_s, other.end_s - other.start_s)


def _add(event: list[Feedback], row: ManifestRow, video: Video, choices: Choices, made: MadeRows) -> None:
    newest, kinds = event[-1], {one.event for one in event}
    if len(kinds) > 1:
        reason = "some call it a seizure and some say that it is none"
        made.left_out += (LeftOut(_place(one), reason) for one in event)
        return
    begins_s, ends_s = (round(video.start_s + at, 3) for at in (newest.start_s, newest.end_s))
    last_s = video.start_s + video.duration_s if video.end_s is None else video.end_s
    if begins_s >= last_s or min(ends_s, last_s) - begins_s < MIN_CLIP_SECONDS:
        made.left_out.append(LeftOut(_place(newest), "less than a second of it is in the video"))
        return
    ends_s = min(ends_s, last_s)
    plain = replace(row, onset_s=None, seizure_end_s=None, label="", semiology=())
    if newest.event == NOT_A_SEIZURE:
        made.rows.append(quiet_row(_part(plain, video, begins_s, ends_s, begins_s)))
        made.background += 1
        return
    labels = {one.label for one in event} - {""}
    if len(labels) > 1:
        made.notes.append(f"{_place(newest)} was called {' and '.join(sorted(labels))}: it gets neither label")
    start_s, end_s = max(begins_s - choices.lead_s, 0.0), min(ends_s + choices.tail_s, last_s)
    part = _part(plain, video, start_s, end_s, begins_s)
    zero_s = start_s - part.start_s  # of the file that it is in
    made.rows.append(
        replace(
            part,
            label=labels.pop() if len(labels) == 1 else "",
            semiology=tuple(sorted({tag for one in event for tag in one.semiology})),
            onset_s=round(begins_s - zero_s, 3),
            seizure_end_s=round(ends_s - zero_s, 3),
            metadata=tuple(pair for pair in row.metadata if pair != BACKGROUND),
        )
    )


def _part(row: ManifestRow, video: Video, start_s: float, end_s: float, at_s: float) -> ManifestRow:
    """A part of the row's file, in seconds of that."""
    return cut(row, start_s, end_s, at_s, file_begins(row.recorded_at, video.start_s))


def _place(one: Feedback) -> str:
    return f"{one.video_id}, {one.start_s:.12g} to {one.end_s:.12g} s, by {one.author}"
