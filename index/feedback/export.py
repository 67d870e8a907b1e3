"""What people have said, in the forms of others: events with HED tags as BIDS has them, and Label Studio's JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from index.feedback.statement import NOT_A_SEIZURE, SEIZURE, Feedback
from index.records import Video
from index.semiology import HED_VERSION, SIGNS, Classes, Stretch

FRAMES_A_SECOND = 25
"""Label Studio counts frames of a video; a project has to be told this rate (`frameRate`)."""
_IN_FULL = {"TLE": "temporal", "exTLE": "extratemporal"}
_COMPUTES = ("=", "+", "-", "@", "\t", "\r")
_EVENTS = {SEIZURE: ("seizure", "sc:Epileptic-seizure"), NOT_A_SEIZURE: ("not a seizure", "n/a")}
_COLUMNS = ("onset", "duration", "trial_type", "video_id", "label", "HED", "author", "at", "note")


def event_lines(said: Iterable[Feedback], videos: Mapping[str, Video]) -> Iterator[str]:
    """A line of events.tsv for each event, sign and label; times in seconds of the video.

    Args:
        said: what people have said; judgements of likeness are no events and left out.
        videos: tell how long a sign is that was seen in all of one.
    """
    for one in said:
        about = (as_text(one.author), one.at, as_text(" ".join(one.note.split())) or "n/a")
        if one.event:
            what, hed = _EVENTS[one.event]
            yield _line(
                _seconds(one.start_s),
                _seconds(one.end_s - one.start_s),
                what,
                one.video_id,
                one.label or "n/a",
                hed,
                *about,
            )
        elif one.label:
            yield _line("0", "0", "label", one.video_id, one.label, "n/a", *about)
        for tag in one.semiology:
            hed = f"sc:{tag}" if tag in SIGNS else "n/a"
            yield _line(
                _seconds(one.start_s), _seconds(_duration_s(one, videos)), tag, one.video_id, "n/a", hed, *about
            )


def as_text(cell: str) -> str:
    """What a person wrote, as no spreadsheet takes it for a formula: with an apostrophe before what would begin one."""
    return f"'{cell}" if cell.startswith(_COMPUTES) else cell


def _seconds(seconds: float) -> str:
    return format(round(seconds, 3), ".12g")


def _line(*cells: str) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerow(cells)
    return text.getvalue()


def events_sidecar(classes: Classes) -> dict[str, Any]:
    """What the columns of events.tsv mean, as BIDS wants it beside them; labels are of these classes."""
    return {
        "HEDVersion": list(HED_VERSION),
        "trial_type": {
            "Description": "A sign, by its HED-SCORE name where there is one; an event; or `label`: what the video is",
            "Levels": {
                "seizure": "A seizure, from its onset to its end",
                "not a seizure": "Looks like one, and is none",
                **SIGNS,
            },
        },
        "video_id": {"Description": "Which video the times are of"},
        "label": {
            "Description": "What the reviewer says it is",
            "Levels": {name: _IN_FULL.get(name, name) for name in classes.names},
        },
        "author": {"Description": "Who said it"},
        "at": {"Description": "When it was said, UTC"},
    }


def sign_line(video_id: str, sign: str, where: Stretch) -> str:
    """A line of signs.tsv: a stretch in which a sign is probable, in seconds of the video."""
    hed = f"sc:{sign}" if sign in SIGNS else "n/a"
    seconds = (_seconds(where.start_s), _seconds(where.end_s - where.start_s))
    return _line(*seconds, as_text(sign), video_id, hed, f"{where.probability:.3f}")


def signs_sidecar(signs_id: str) -> dict[str, Any]:
    """What the columns of signs.tsv mean, as BIDS wants it beside them."""
    return {
        "HEDVersion": list(HED_VERSION),
        "trial_type": {
            "Description": f"A sign that sign heads {signs_id} find probable; no person has looked",
            "Levels": SIGNS,
        },
        "video_id": {"Description": "Which video the times are of"},
        "probability": {"Description": "The highest of a clip in the stretch, calibrated"},
    }


def label_studio_task(video_id: str, said: Iterable[Feedback], videos: Mapping[str, Video]) -> dict[str, Any] | None:
    """A task to import: a video, with an annotation for each piece of feedback on it; None where there is none.

    For a labelling configuration with `Choices` named label, `TimelineLabels` named signs and `TextArea` named note,
    all of a `Video` named video.
    """
    annotations = [
        {"completed_by": {"email": one.author}, "created_at": one.at, "result": list(_results(one, videos))}
        for one in said
        if one.video_id == video_id and (one.event or one.label or one.semiology or one.note)
    ]
    if not annotations:
        return None
    return {"data": {"video": f"/preview/{video_id}.mp4", "video_id": video_id}, "annotations": annotations}


EVENTS_HEAD = _line(*_COLUMNS)
"""The first line of events.tsv."""
SIGNS_HEAD = _line("onset", "duration", "trial_type", "video_id", "HED", "probability")
"""The first line of signs.tsv."""


def _duration_s(one: Feedback, videos: Mapping[str, Video]) -> float:
    """Onset and duration of its signs, or of the whole video."""
    if one.end_s:
        return one.end_s - one.start_s
    video = videos.get(one.video_id)
    return video.duration_s if video else 0.0


def _results(one: Feedback, videos: Mapping[str, Video]) -> Iterable[dict[str, Any]]:
    if one.label and not one.event:
        yield {"from_name": "label", "to_name": "video", "type": "choices", "value": {"choices": [one.label]}}
    if seen := [*([_EVENTS[one.event][0]] if one.event else ()), *one.semiology]:
        end_s = one.start_s + _duration_s(one, videos)
        ranges = [{"start": round(one.start_s * FRAMES_A_SECOND), "end": round(end_s * FRAMES_A_SECOND)}]
        value = {"timelinelabels": seen, "ranges": ranges}
        yield {"from_name": "signs", "to_name": "video", "type": "timelinelabels", "value": value}
    if one.note:
        yield {"from_name": "note", "to_name": "video", "type": "textarea", "value": {"text": [one.note]}}
