"""Events that people saved on the review page to rows of a manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from encoder.clips import MIN_CLIP_SECONDS
from encoder.events.annotations import Kind, LeftOut
from encoder.events.cuts import Choices, MadeRows, cut, quiet_row
from encoder.manifest import Manifest, ManifestRow
from index.feedback.statement import NOT_A_SEIZURE, SEIZURE, Feedback, same_stretch
from index.records import BACKGROUND, Video
from index.tables.recording import file_begins

_TO_NOBODY = "no row of the manifest is this video"
_OF_ONSETS = frozenset(f"{kind.value}_s" for kind in Kind)
"""Metadata that an import gives to one seizure."""


@dataclass(frozen=True, slots=True)
class _Event:
    """A statement, and where in the file it is."""

    said: Feedback
    row: ManifestRow
    video: Video
    begins_s: float
    ends_s: float

    def same(self, other: _Event) -> bool:
        return same_stretch(self.begins_s, self.ends_s, other.begins_s, other.ends_s)


def rows_of_events(
    said: Iterable[Feedback], manifest: Manifest, videos: Mapping[str, Video], choices: Choices
) -> MadeRows:
    """A row for each stretch that people call a seizure, and one of background for each that they say is none.

    Statements about the same stretch of a file, of which the shorter lies in the other by more than half, are one
    event, whichever video of that file they were made on. An author's newest takes the place of their earlier ones, and
    the newest of all says when it begins and ends. What is no seizure gives no background where there is one.

    Args:
        said: what people have said; all but events is passed over.
        manifest: the videos that were encoded.
        videos: stored ones, by id.
        choices: the lead and the tail of rows.
    """
    made, listed = MadeRows(), {row.video_id: row for row in manifest.rows}
    events: dict[str, list[_Event]] = defaultdict(list)
    for one in sorted(said, key=lambda one: (one.at, one.feedback_id)):
        if not one.event:
            continue
        row, video = listed.get(one.video_id), videos.get(one.video_id)
        if row is None or video is None or row.start_s != video.start_s:
            reason = _TO_NOBODY if row is None else "the manifest's row is another part of the file than is stored"
            made.left_out.append(LeftOut(_place(one), reason))
            continue
        ends_s = round(min(video.start_s + one.end_s, _last(video)), 3)
        event = _Event(one, row, video, round(video.start_s + one.start_s, 3), ends_s)
        if event.ends_s - event.begins_s < MIN_CLIP_SECONDS:
            made.left_out.append(LeftOut(_place(one), "less than a second of it is in the video"))
            continue
        of_file = events[video.source_sha256 or row.file_name]
        of_file[:] = [other for other in of_file if other.said.author != one.author or not event.same(other)]
        of_file.append(event)
    for name, of_file in sorted(events.items()):
        seizures = [
            (row.onset_s, row.seizure_end_s or row.end_s or _last(videos[row.video_id]))
            for row in manifest.rows
            if row.onset_s is not None and row.video_id in videos and videos[row.video_id].source_sha256 == name
        ]
        agreed = [group for group in _groups(of_file) if _agree(group, made)]
        seizures += ((one[-1].begins_s, one[-1].ends_s) for one in agreed if one[-1].said.event == SEIZURE)
        for group in agreed:
            _add(group, seizures, choices, made)
    made.rows.sort(key=lambda row: (row.patient_id, row.file_name, row.start_s))
    return made


def _last(video: Video) -> float:
    return video.start_s + video.duration_s if video.end_s is None else video.end_s


def _groups(events: Sequence[_Event]) -> list[list[_Event]]:
    """Statements about the same stretch together, oldest first."""
    groups: list[list[_Event]] = []
    for event in events:
        same = [group for group in groups if any(event.same(other) for other in group)]
        groups = [group for group in groups if group not in same]
        groups.append(sorted((*chain.from_iterable(same), event), key=lambda one: (one.said.at, one.said.feedback_id)))
    return groups


def _agree(group: Sequence[_Event], made: MadeRows) -> bool:
    if len({one.said.event for one in group}) == 1:
        return True
    reason = "some call it a seizure and some say that it is none"
    made.left_out += (LeftOut(_place(one.said), reason) for one in group)
    return False


def _add(group: Sequence[_Event], seizures: Sequence[tuple[float, float]], choices: Choices, made: MadeRows) -> None:
    newest = group[-1]
    begins_s, ends_s, video = newest.begins_s, newest.ends_s, newest.video
    kept = tuple((name, value) for name, value in newest.row.metadata if name not in _OF_ONSETS)
    plain = replace(newest.row, onset_s=None, seizure_end_s=None, label="", semiology=(), metadata=kept)
    if newest.said.event == NOT_A_SEIZURE:
        if any(begins_s < end and begin < ends_s for begin, end in seizures):
            reason = "it is said to be no seizure, and there is one at that time: decide which is right"
            made.left_out += (LeftOut(_place(one.said), reason) for one in group)
            return
        made.rows.append(quiet_row(_part(plain, video, begins_s, ends_s, begins_s)))
        made.background += 1
        return
    labels = {one.said.label for one in group} - {""}
    if len(labels) > 1:
        made.notes.append(f"{_place(newest.said)} was called {' and '.join(sorted(labels))}: it gets neither label")
    start_s, end_s = max(begins_s - choices.lead_s, 0.0), min(ends_s + choices.tail_s, _last(video))
    part = _part(plain, video, start_s, end_s, begins_s)
    zero_s = start_s - part.start_s  # of the file that it is in
    made.rows.append(
        replace(
            part,
            label=labels.pop() if len(labels) == 1 else "",
            semiology=tuple(sorted({tag for one in group for tag in one.said.semiology})),
            onset_s=round(begins_s - zero_s, 3),
            seizure_end_s=round(ends_s - zero_s, 3),
            metadata=tuple(pair for pair in kept if pair != BACKGROUND),
        )
    )


def _part(row: ManifestRow, video: Video, start_s: float, end_s: float, at_s: float) -> ManifestRow:
    """A part of the row's file, in seconds of that."""
    return cut(row, start_s, end_s, at_s, file_begins(row.recorded_at, video.start_s))


def _place(one: Feedback) -> str:
    return f"{one.video_id}, {one.start_s:.12g} to {one.end_s:.12g} s, by {one.author}"
