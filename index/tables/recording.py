"""The videos of one recording, and where in it each lies: parts of one file, and files that belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from index.records import Video

RECORDING_ID = "recording_id"
"""Metadata that names the recording which a video's file is a part of."""


@dataclass(frozen=True, slots=True)
class RecordedVideo:
    """A video and where in its recording it begins, in seconds after the first frame of the recording's first file."""

    video: Video
    offset_s: float


def recording_of(asked: Video, videos: Iterable[Video]) -> tuple[RecordedVideo, ...]:
    """Everything stored of the recording that a video is of, in time.

    Videos of one file lie where their rows say. Those of other files with the same `recording_id`, patient and camera
    lie by the clock, if `recorded_at` says both times of day.

    Args:
        asked: the video.
        videos: all that are stored, it included.
    """
    theirs = [one for one in videos if one.patient_id == asked.patient_id]
    offsets = {one.video_id: one.start_s for one in theirs if one.source_sha256 == asked.source_sha256}
    name, begins = dict(asked.metadata).get(RECORDING_ID), file_begins(asked.recorded_at, asked.start_s)
    for one in theirs:
        same = name and dict(one.metadata).get(RECORDING_ID) == name and one.camera == asked.camera
        there = file_begins(one.recorded_at, one.start_s)
        if one.video_id in offsets or not same or begins is None or there is None:
            continue
        if (there.tzinfo is None) == (begins.tzinfo is None):
            offsets[one.video_id] = (there - begins).total_seconds() + one.start_s
    first = min((offsets[one.video_id] - one.start_s for one in theirs if one.video_id in offsets), default=0.0)
    found = [RecordedVideo(one, round(offsets[one.video_id] - first, 3)) for one in theirs if one.video_id in offsets]
    return tuple(sorted(found, key=lambda one: (one.offset_s, -one.video.duration_s, one.video.video_id)))


def file_begins(recorded_at: str, start_s: float) -> datetime | None:
    """When the first frame of a file was taken; None where that is not known to the time of day.

    Args:
        recorded_at: of a video in the file, ISO 8601 or empty.
        start_s: where in the file that begins.
    """
    return datetime.fromisoformat(recorded_at) - timedelta(seconds=start_s) if ":" in recorded_at else None
