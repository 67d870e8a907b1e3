"""One statement about a stored video, and what is refused as one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from index.errors import InvalidInput
from index.records import ID, TAG
from index.semiology import Classes

RELEVANCES = ("relevant", "not_relevant")
SEIZURE, NOT_A_SEIZURE = EVENTS = ("seizure", "not_a_seizure")
"""What a stretch of a video may be said to be."""
MAX_NOTE = 2000
_CLIP = re.compile(r"[0-9a-f]{32}")
_MAX_TAGS = 32


@dataclass(frozen=True, slots=True)
class Feedback:
    """One statement by one person.

    Attributes:
        video_id: the video it is about.
        patient_id: that video's patient.
        query_video_id: of a judgement: the video that was asked about; empty otherwise, and where an upload was.
        query_patient_id: that video's patient.
        clip_id: the clip of the video that was shown, or empty.
        query_clip_id: the clip that was asked about, or empty.
        relevance: whether the video resembles what was asked about: `relevant`, `not_relevant`, or empty.
        label: what the video is, one of the workspace's classes, or empty where nothing is said of it; of an event,
            what that is.
        semiology: signs seen in it, HED-SCORE names.
        start_s: where in the video the signs or the event begin.
        end_s: where they end; 0 with `start_s` 0: they are of the whole video.
        event: what happens in the stretch: `seizure`, `not_a_seizure`, or empty where it is not called an event.
        note: free text.
        feedback_id: 16 hex digits, given when it is saved.
        author: identity of who said it.
        at: UTC, ISO 8601.
    """

    video_id: str
    patient_id: str
    query_video_id: str = ""
    query_patient_id: str = ""
    clip_id: str = ""
    query_clip_id: str = ""
    relevance: str = ""
    label: str = ""
    semiology: tuple[str, ...] = ()
    start_s: float = 0.0
    end_s: float = 0.0
    event: str = ""
    note: str = ""
    feedback_id: str = ""
    author: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """A page of what people have said, oldest first.

    Attributes:
        feedback: may be fewer than fit.
        next_page_token: of the next page; empty where this is the last.
    """

    feedback: tuple[Feedback, ...]
    next_page_token: str


def check(said: Feedback, classes: Classes) -> None:
    """Refuse what can't be kept in a workspace of these classes.

    Raises:
        InvalidInput: If a field is out of bounds; the message names it.
    """
    for name in ("video_id", "query_video_id"):
        if (value := getattr(said, name)) and not ID.fullmatch(value):
            raise InvalidInput("expected an id of a stored video", field=name)
    for name in ("clip_id", "query_clip_id"):
        if (value := getattr(said, name)) and not _CLIP.fullmatch(value):
            raise InvalidInput("expected an id of a stored clip", field=name)
    if said.relevance and said.relevance not in RELEVANCES:
        raise InvalidInput(f"expected {' or '.join(RELEVANCES)}, or nothing", field="relevance")
    classes.check([said.label])
    if len(said.semiology) > _MAX_TAGS or not all(map(TAG.fullmatch, said.semiology)):
        raise InvalidInput(f"expected at most {_MAX_TAGS} tags of letters, digits and hyphens", field="semiology")
    if not (said.start_s == said.end_s == 0 or 0 <= said.start_s < said.end_s < 1e6):
        raise InvalidInput("expected a beginning before its end, in seconds of the video", field="start_s")
    if said.event and said.event not in EVENTS:
        raise InvalidInput(f"expected {' or '.join(EVENTS)}, or nothing", field="event")
    if said.event and not said.end_s:
        raise InvalidInput("expected when the event begins and ends, got neither", field="start_s")
    if said.event == NOT_A_SEIZURE and (said.label or said.semiology):
        raise InvalidInput("expected neither a label nor signs with what is not a seizure", field="event")
    if said.event and (said.relevance or said.query_video_id or said.query_clip_id):
        raise InvalidInput("expected an event without what was asked about: that belongs to judgements", field="event")
    if len(said.note) > MAX_NOTE or not all(letter.isprintable() or letter == "\n" for letter in said.note):
        raise InvalidInput(f"expected a note of at most {MAX_NOTE} printable characters", field="note")
    if not (said.relevance or said.event or said.label or said.semiology or said.note.strip()):
        raise InvalidInput(
            "expected a judgement, an event, a label, tags or a note, got none of them", field="feedback"
        )


def same_stretch(begins_s: float, ends_s: float, other_begins_s: float, other_ends_s: float) -> bool:
    """Whether two stretches are taken for the same: the shorter lies in the other by more than half."""
    shared = min(ends_s, other_ends_s) - max(begins_s, other_begins_s)
    return 2 * shared > min(ends_s - begins_s, other_ends_s - other_begins_s)
