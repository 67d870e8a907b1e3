"""The clips a training run looks at: what is known of each, and its frames, in memory or read as they are asked for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from index.phases import Phase
from index.records import CLIP_SECONDS

LATER = frozenset(
    {
        *("begins_s", "valid_seconds", "onset_s", "seizure_end_s"),
        *("recording_id", "file_began", "background", "tags"),
    }
)
"""What older frame caches do not have: when things happen, in which recording, and what a video shows."""


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """One clip, and what is known of it.

    Attributes:
        video_id: of its video.
        patient_id: of its patient.
        clip_index: number in its video.
        label: its class, or empty.
        split: of its video, or empty.
        camera: of its video, or empty.
        source_sha256: digest of its file; tells copies of one file under two names.
        signs: what it shows, where that is known clip by clip (simulated cohorts).
        crop: the part of the picture that was used, as in the manifest, or empty.
        file_bytes: size of its file.
        valid_seconds: how much of it shows a picture; of all but the last clip of a video the whole.
        begins_s: when it begins, in seconds after its video does; None for ten seconds times its number.
        onset_s: onset of its video's seizure, in seconds after the video begins; None where it is not known.
        seizure_end_s: end of the seizure, in the same seconds; None where it is not known.
        recording_id: of the recording that its file is a part of, or empty.
        file_began: when the first frame of its file was taken, ISO 8601, or empty.
        background: whether its video is one in which nothing happens.
        tags: signs that its video shows, in some clip or other.
    """

    video_id: str
    patient_id: str
    clip_index: int
    label: str = ""
    split: str = ""
    camera: str = ""
    source_sha256: str = ""
    signs: tuple[str, ...] = ()
    crop: str = ""
    file_bytes: int = 0
    valid_seconds: float = float(CLIP_SECONDS)
    begins_s: float | None = None
    onset_s: float | None = None
    seizure_end_s: float | None = None
    recording_id: str = ""
    file_began: str = ""
    background: bool = False
    tags: tuple[str, ...] = ()

    @property
    def recording(self) -> tuple[str, ...]:
        """What tells its recording from others."""
        return (self.patient_id, self.recording_id) if self.recording_id else (self.source_sha256 or self.video_id,)

    @property
    def phase(self) -> Phase:
        """Where its middle lies in the seizure of its video."""
        end = math.inf if self.seizure_end_s is None else self.seizure_end_s
        if self.onset_s is None:
            return Phase.UNKNOWN
        middle = self.start_s + self.valid_seconds / 2
        if middle < self.onset_s:
            return Phase.PREICTAL
        return Phase.ICTAL if middle < end else Phase.POSTICTAL

    @property
    def from_onset_s(self) -> float:
        """Seconds from the onset of the seizure to where the clip begins; NaN where the onset is not known."""
        return math.nan if self.onset_s is None else self.start_s - self.onset_s

    @property
    def start_s(self) -> float:
        """Seconds after its video begins."""
        return float(CLIP_SECONDS * self.clip_index) if self.begins_s is None else self.begins_s


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A video that could not be read to its end: none of its clips is used, and none takes their place."""

    video_id: str
    reason: str


class ChosenFrames:
    """Some clips of a memory map, read when they are asked for: a cache may be larger than memory.

    Args:
        frames: (N, T, S, S, 3) uint8.
        rows: which of them, in order.
    """

    def __init__(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> None:
        self._frames, self._rows = frames, np.asarray(rows, np.intp)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, as an array has one."""
        return (len(self._rows), *self._frames.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, wanted: int | slice | list[int]) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint8] = self._frames[self._rows[wanted]]
        return chosen

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self._frames[row] for row in self._rows)

    def among(self, numbers: Sequence[int]) -> ChosenFrames:
        """Some of these."""
        return ChosenFrames(self._frames, self._rows[list(numbers)].tolist())


Frames = NDArray[np.uint8] | ChosenFrames


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """Frames of many clips.

    Attributes:
        frames: (N, T, S, S, 3) uint8 RGB, in memory or read from a cache as they are asked for.
        clips: one for each.
        left_out: videos that are not among them.
    """

    frames: Frames
    clips: tuple[TrainingClip, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def video_of(self) -> list[int]:
        """Number of each clip's video."""
        return _numbers([clip.video_id for clip in self.clips])

    @property
    def patient_of(self) -> list[int]:
        """Number of each clip's patient."""
        return _numbers([clip.patient_id for clip in self.clips])

    @property
    def scene_of(self) -> list[int]:
        """Twice the number of each clip's recording, and one more where it is background."""
        recordings = _numbers([clip.recording for clip in self.clips])
        return [2 * number + clip.background for number, clip in zip(recordings, self.clips, strict=True)]

    @property
    def camera_of_video(self) -> list[str]:
        """Camera of each video number."""
        return list({clip.video_id: clip.camera for clip in self.clips}.values())

    def first_of_each_video(self) -> list[TrainingClip]:
        """The first clip of each video, which stands for it."""
        return list({clip.video_id: clip for clip in reversed(self.clips)}.values())[::-1]

    def of(self, wanted: Callable[[TrainingClip], bool]) -> TrainingClips:
        """The clips that are wanted."""
        kept = [number for number, clip in enumerate(self.clips) if wanted(clip)]
        frames = self.frames.among(kept) if isinstance(self.frames, ChosenFrames) else self.frames[kept]
        return TrainingClips(frames, tuple(self.clips[number] for number in kept), self.left_out)

    def digest(self) -> str:
        """Over what the clips are, not over their pictures: ranks on which it differs train on different things."""
        clips = [{name: value for name, value in asdict(clip).items() if name not in LATER} for clip in self.clips]
        scenes = [self.scene_of] if any(clip.background for clip in self.clips) else []
        described = json.dumps([self.frames.shape, clips, *scenes])
        return hashlib.sha256(described.encode()).hexdigest()


def _numbers(names: Sequence[Hashable]) -> list[int]:
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [order[name] for name in names]
