"""The videos of one recording, and where in it each lies: parts of one file, and files that belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    Videos of one file lie where their rows say. Other files with the same `recording_id`, patient and camera lie by the
    clock, if `recorded_at` says both times of day.

    Args:
        asked: the video.
        videos: all that are stored, it included.
    """
    files: dict[str, list[Video]] = {}
    for one in videos:
        if one.patient_id == asked.patient_id:
            files.setdefault(one.source_sha256, []).append(one)
    own = files[asked.source_sha256]
    names, begins = _names(own), _begins(own)
    zero_of = {asked.source_sha256: 0.0}
    for digest, parts in files.items():
        there = _begins(parts)
        if digest in zero_of or not names & _names(parts) or begins is None or there is None:
            continue
        if (there.tzinfo is None) == (begins.tzinfo is None):
            zero_of[digest] = (there - begins).total_seconds()
    first = min(zero_of.values())
    found = [
        RecordedVideo(one, round(zero - first + one.start_s, 3))
        for digest, zero in zero_of.items()
        for one in files[digest]
    ]
    return tuple(sorted(found, key=lambda one: (one.offset_s, -one.video.duration_s, one.video.video_id)))


def _names(parts: Sequence[Video]) -> set[tuple[str, str]]:
    """Recordings, with the camera, that videos of a file are said to be of."""
    return {(name, one.camera) for one in parts if (name := dict(one.metadata).get(RECORDING_ID))}


def _begins(parts: Sequence[Video]) -> datetime | None:
    """When the first frame of a file was taken, by the earliest of its videos that says so."""
    said = (file_begins(one.recorded_at, one.start_s) for one in sorted(parts, key=lambda one: one.start_s))
    return next((moment for moment in said if moment is not None), None)


def file_begins(recorded_at: str, start_s: float) -> datetime | None:
    """When the first frame of a file was taken; None where that is not known to the time of day.

    Args:
        recorded_at: of a video in the file, ISO 8601 or empty.
        start_s: where in the file that begins.
    """
    return datetime.fromisoformat(recorded_at) - timedelta(seconds=start_s) if ":" in recorded_at else None
