"""Where clips lie in their seizure, as far as its onset is known: which of them speak for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np

FIRST_S = 20
"""The seconds from onset that are judged beside the whole seizure: the first signs localise."""


ROUNDED_S = 2e-3
"""What rounding may take from a clip: two that overlap by less do not."""


class _Clip(Protocol):
    @property
    def video_id(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def valid_seconds(self) -> float: ...


class _Video(Protocol):
    @property
    def start_s(self) -> float: ...
    @property
    def onset_s(self) -> float | None: ...
    @property
    def seizure_end_s(self) -> float | None: ...


class _Clips(Protocol):
    def __getitem__(self, row: int, /) -> _Clip: ...


class Phase(StrEnum):
    """Where the middle of a clip lies."""

    PREICTAL = "preictal"
    ICTAL = "ictal"
    POSTICTAL = "postictal"
    UNKNOWN = "unknown"
    """The onset of the seizure is not known."""


def phase_of(video: _Video, clip: _Clip) -> Phase:
    """Where a clip of a video lies; a seizure without a known end goes on to the end of the video."""
    if video.onset_s is None:
        return Phase.UNKNOWN
    middle = video.start_s + clip.start_s + clip.valid_seconds / 2
    if middle < video.onset_s:
        return Phase.PREICTAL
    return Phase.ICTAL if video.seizure_end_s is None or middle < video.seizure_end_s else Phase.POSTICTAL


def counted_clips(video: _Video | None, clips: Sequence[_Clip], from_onset_s: float | None = None) -> list[int]:
    """Numbers of the clips that count for what a seizure is: those of it, and of overlapping ones the first.

    Args:
        video: the clips' own; None where nothing is known of it.
        clips: of one video, in order.
        from_onset_s: only the first seconds of the seizure; None for all of it.
    """
    of_seizure = seizure_clips(video, clips, from_onset_s)
    return [of_seizure[place] for place in apart([clips[number] for number in of_seizure])]


def apart(clips: Sequence[_Clip]) -> list[int]:
    """Numbers of clips of one video, in order, that show every second once: each begins where the one before has ended.

    The last one alone may overlap with the one before, where it shows a second or more that no other does.
    """
    kept, until = [], 0.0
    for number, clip in enumerate(clips):
        end = clip.start_s + clip.valid_seconds
        if clip.start_s >= until - ROUNDED_S or (number + 1 == len(clips) and end >= until + 1 - ROUNDED_S):
            kept.append(number)
            until = end
    return kept


def seizure_clips(video: _Video | None, clips: Sequence[_Clip], from_onset_s: float | None = None) -> list[int]:
    """Numbers of the clips of a seizure, which may overlap.

    All where the onset is not known; else those whose middle lies in the seizure, and of a seizure too short for that
    the clip that shows most of it. All, too, where no clip shows any of it.

    Args:
        video: the clips' own; None where nothing is known of it.
        clips: of one video, in order.
        from_onset_s: only the first seconds of the seizure; None for all of it.
    """
    every = list(range(len(clips)))
    if video is None or video.onset_s is None or not clips:
        return every
    begin = video.onset_s - video.start_s
    end = float("inf") if video.seizure_end_s is None else video.seizure_end_s - video.start_s
    if from_onset_s is not None:
        end = min(end, begin + from_onset_s)
    starts = np.array([clip.start_s for clip in clips])
    ends = starts + np.array([clip.valid_seconds for clip in clips])
    middles = (starts + ends) / 2
    inside = np.flatnonzero((begin <= middles) & (middles < end))
    if len(inside):
        return list(map(int, inside))
    shared = np.minimum(ends, end) - np.maximum(starts, begin)
    return [int(shared.argmax())] if shared.max() > 0 else every


class CountedRows(NamedTuple):
    """Which of some rows count.

    Attributes:
        rows: in order.
        outside: how many do not, since they lie outside the seizure.
        overlapping: how many others do not, since they overlap with one that does.
    """

    rows: list[int]
    outside: int
    overlapping: int


def counted_rows(
    clips: _Clips, videos: Mapping[str, _Video], rows: Iterable[int], from_onset_s: float | None = None
) -> CountedRows:
    """Those of some rows whose clips count, see `counted_clips`.

    Args:
        clips: of all rows.
        videos: by id.
        rows: which may be of many videos.
        from_onset_s: see `counted_clips`.
    """
    by_video: dict[str, list[int]] = {}
    for row in rows:
        by_video.setdefault(clips[row].video_id, []).append(row)
    counted: list[int] = []
    outside = of_seizures = 0
    for video_id, of_video in by_video.items():
        of_video.sort(key=lambda row: clips[row].start_s)
        inside = seizure_clips(videos.get(video_id), [clips[row] for row in of_video], from_onset_s)
        outside, of_seizures = outside + len(of_video) - len(inside), of_seizures + len(inside)
        theirs = [of_video[place] for place in inside]
        counted += [theirs[place] for place in apart([clips[row] for row in theirs])]
    return CountedRows(sorted(counted), outside, of_seizures - len(counted))
