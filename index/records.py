"""What crosses package borders: videos, clips, embedded clips, neighbours, verdicts. Standard library only."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from index.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLIP_SECONDS = 10
"""Length of a clip."""

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Ids of videos and patients, names of classes, cameras and splits."""

TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
"""Semiology tags, HED-SCORE names."""

BACKGROUND = ("background", "yes")
"""Metadata of a video in which nothing happens."""
METADATA_NAME = re.compile(r"[^\W\d_][\w .-]{0,63}")
"""Names of what else a manifest says of its videos."""

METADATA_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}")
"""Values of it: one line."""

_SHA256 = re.compile("[0-9a-f]{64}")
_CROP = re.compile(r"\d{1,6} \d{1,6} \d{1,6} \d{1,6}")
_SEGMENT = r"from [\d.]{1,16} to ([\d.]{1,16}|end)"
_USED_CROP = re.compile(
    rf"(none ?)?(track \d{{1,3}} ?)?({_SEGMENT} ?)?(every [\d.]{{1,16}} ?)?"
    rf"(whole|((bed|camera|manifest) )?{_CROP.pattern}( of \d{{1,6}}x\d{{1,6}})?)?"
)
_MOST_TAGS = 64
_MOST_METADATA = 64
_MOST_SECONDS = 1e8


@dataclass(frozen=True, slots=True)
class Video:
    """One recording, as its manifest row and its file describe it.

    Attributes:
        video_id: the manifest's id, unique in a workspace.
        patient_id: study pseudonym, never a name.
        source_sha256: hex digest of the file.
        label: its class, see `index.semiology`, or empty.
        recorded_at: ISO 8601 date or date and time, or empty.
        semiology: tags, HED-SCORE names.
        camera: free name of room or camera, or empty.
        split: free name of a data split, or empty.
        duration_s: seconds of picture.
        clip_count: how many clips were made of it.
        salvaged: the file is damaged and only its clips before the damage are kept.
        crop: the part of the picture that the manifest fixes, `x y w h` in pixels, or empty.
        metadata: what else its manifest says of it: (name, value), sorted by name.
        start_s: where in its file the video begins, in seconds after the file's first frame.
        end_s: where in its file it ends; None at the end of the file.
        onset_s: clinical onset of the seizure, in the file's seconds; None where it is not known.
        seizure_end_s: clinical end of the seizure, in the file's seconds; None where it is not known.
    """

    video_id: str
    patient_id: str
    source_sha256: str
    label: str = ""
    recorded_at: str = ""
    semiology: tuple[str, ...] = ()
    camera: str = ""
    split: str = ""
    duration_s: float = 0.0
    clip_count: int = 0
    salvaged: bool = False
    crop: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    start_s: float = 0.0
    end_s: float | None = None
    onset_s: float | None = None
    seizure_end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """Ten seconds of a video, by presentation time, or what is left of them where it ends.

    Clips follow each other every ten seconds, or overlap where a video was encoded with a shorter stride.

    Attributes:
        clip_id: opaque and deterministic, see `clip_id`.
        video_id: the video it was cut from.
        patient_id: the patient's pseudonym.
        clip_index: number of the clip, from 0.
        start_s: its number times the stride, from where the video begins.
        valid_seconds: how much of it exists, (0, 10].
    """

    clip_id: str
    video_id: str
    patient_id: str
    clip_index: int
    start_s: float
    valid_seconds: float


@dataclass(frozen=True, slots=True)
class EmbeddedClip:
    """A clip and its embedding, (D,) float32 of unit length.

    Attributes:
        clip: the clip.
        vector: its embedding.
        crop: the part of the picture that was embedded, in the encoder's words (`encoder.bed.crop.UsedCrop`).
    """

    clip: Clip
    vector: NDArray[np.float32]
    crop: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A clip and what it resembles.

    Attributes:
        clip: the clip found.
        similarity: cosine, [-1, 1].
        query_clip_id: which clip of the query it resembles; empty when the query was no stored clip.
    """

    clip: Clip
    similarity: float
    query_clip_id: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A clip, video or patient that resembles the query.

    Attributes:
        clip: the clip found; of a video or patient, the one most similar to the query.
        label: label of its video, or empty.
        similarity: [-1, 1], larger is closer: the cosine, or what the clips of a group make together.
        query_clip_id: which clip of the query it resembles; empty when the query was no stored clip.
        matches: the clips that made the similarity of a group, best first; of an aligned video the pairs of clips, in
            time. Empty where the clip alone made it.
    """

    clip: Clip
    label: str
    similarity: float
    query_clip_id: str = ""
    matches: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an answer was made with.

    Attributes:
        encoder_id: whose embeddings were used.
        generation: that was searched or read.
        head_id: of the classifier; empty where none is loaded, or none takes part.
        table_version: newest version of the clip table that was looked at beside the generation.
        encoder_kind: where the encoder's weights come from, one of `encoder.model.kind.KINDS`; empty where it
            is not known.
    """

    encoder_id: str
    generation: str
    head_id: str
    table_version: int = 0
    encoder_kind: str = ""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What was found: hits, most similar first, and what they were found in."""

    provenance: Provenance
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Distance:
    """How unlike everything stored some clips are, see `index.search.novelty`.

    Attributes:
        value: 1 - similarity to a near clip of other patients, mean over the clips; 0 to 2.
        percentile: share of stored clips with a smaller one, 0 to 1.
        sample: number of stored clips that the share was taken from.
    """

    value: float
    percentile: float
    sample: int


@dataclass(frozen=True, slots=True)
class ClipVerdict:
    """One clip's probabilities.

    Attributes:
        probabilities: of each class, in the order of the head's outputs; their sum is 1.
        label: the class it votes for.
    """

    probabilities: tuple[float, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the clips say together.

    Attributes:
        label: the class.
        classes: all classes, in the order of the head's outputs.
        probabilities: of each class, the mean over the clips.
        votes: how many clips vote for each class.
        tie: several classes had the most votes, and the mean probability decided between them.
        clips: each clip's own verdict.
    """

    label: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    votes: tuple[int, ...]
    tie: bool
    clips: tuple[ClipVerdict, ...]

    @property
    def margin(self) -> int:
        """Votes of the winning class less those of the next."""
        most, next_most = sorted(self.votes, reverse=True)[:2]
        return most - next_most


def clip_id(source_sha256: str, video_id: str, start_s: float) -> str:
    """The id of the clip of a video that begins at `start_s`, of a file with this digest: 32 hex digits.

    The video id takes part because one recording may be listed twice, under two ids; the stride does not, so that the
    same ten seconds are the same clip with every one.
    """
    return hashlib.sha256(f"{source_sha256}/{video_id}/{start_s / CLIP_SECONDS:.12g}".encode()).hexdigest()[:32]


def check_video(video: Video) -> None:
    """Refuse a video that no store may hold; whatever is stored passes here.

    Raises:
        InvalidInput: If a field is of another type than it says, or out of its bounds; it is named, its value is not.
    """

    def wants(name: str, good: object, expected: str) -> None:
        if not good:
            raise InvalidInput(f"expected {expected} as {name} of a video", field=name)

    for name in ("video_id", "patient_id"):
        wants(name, _is(ID, getattr(video, name)), "1 to 64 letters, digits, dots, underscores or hyphens")
    for name in ("label", "camera", "split"):
        value = getattr(video, name)
        wants(name, value == "" or _is(ID, value), "1 to 64 letters, digits, dots, underscores or hyphens, or nothing")
    wants("source_sha256", _is(_SHA256, video.source_sha256), "64 hex digits")
    wants("recorded_at", _is_time(video.recorded_at), "an ISO 8601 date, or time in full, or nothing")
    tags = video.semiology
    wants("semiology", isinstance(tags, tuple) and len(tags) <= _MOST_TAGS and all(_is(TAG, t) for t in tags), "tags")
    wants("semiology", list(tags) == sorted(set(tags)), "tags in order, each once")
    wants("duration_s", _is_number(video.duration_s, 0, _MOST_SECONDS), "a finite number of seconds, 0 or more")
    wants("clip_count", type(video.clip_count) is int and video.clip_count >= 0, "a whole number, 0 or more")
    wants("salvaged", isinstance(video.salvaged, bool), "true or false")
    wants("crop", video.crop == "" or _is(_CROP, video.crop), "x y w h in pixels, or nothing")
    wants("start_s", _is_number(video.start_s, 0, _MOST_SECONDS), "a finite number of seconds, 0 or more")
    for name in ("end_s", "onset_s", "seizure_end_s"):
        value = getattr(video, name)
        good = value is None or _is_number(value, video.start_s, _MOST_SECONDS)
        wants(name, good, "a finite number of seconds, not before start_s, or nothing")
    wants("metadata", _is_metadata(video.metadata), "names with one line of text each, in order, each once")


def check_clip(clip: Clip, source_sha256: str) -> None:
    """Refuse a clip that no store may hold; whatever is stored passes here.

    Args:
        clip: to be stored.
        source_sha256: of the file it was cut from.

    Raises:
        InvalidInput: If a field is of another type than it says, or out of its bounds, or the id is not this clip's.
    """
    for name in ("video_id", "patient_id"):
        if not _is(ID, getattr(clip, name)):
            raise InvalidInput(f"expected 1 to 64 letters, digits, dots, underscores or hyphens as {name}", field=name)
    if type(clip.clip_index) is not int or clip.clip_index < 0:
        raise InvalidInput("expected a whole number, 0 or more, as clip_index", field="clip_index")
    if not _is_number(clip.start_s, 0, CLIP_SECONDS * clip.clip_index) or (clip.clip_index > 0 and clip.start_s == 0):
        raise InvalidInput(
            f"expected clip {clip.clip_index} of a video to begin after 0 s and no later than {CLIP_SECONDS} s times "
            "its number",
            field="start_s",
        )
    if clip.clip_id != clip_id(source_sha256, clip.video_id, clip.start_s):
        raise InvalidInput(
            "expected the id that a clip's file, video and beginning give it: any other is another clip's",
            field="clip_id",
        )
    if not _is_number(clip.valid_seconds, 0, CLIP_SECONDS) or clip.valid_seconds == 0:
        raise InvalidInput(f"expected clip {clip.clip_id} to last at most {CLIP_SECONDS} s", field="valid_seconds")


def check_crop(crop: str) -> None:
    """Refuse what can't be the part of the picture that a clip was embedded of, in the encoder's words.

    Raises:
        InvalidInput: If it is anything else.
    """
    if not _is(_USED_CROP, crop):
        raise InvalidInput("expected the part of the picture that was used, such as `bed x y w h of WxH`", field="crop")


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_metadata(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) > _MOST_METADATA:
        return False
    pairs = all(
        isinstance(one, tuple) and len(one) == 2 and _is(METADATA_NAME, one[0]) and _is(METADATA_VALUE, one[1])
        for one in value
    )
    return pairs and [name for name, _ in value] == sorted({name for name, _ in value})


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or len(value) > 40:
        return False
    try:
        moment = datetime.fromisoformat(value) if value else None
    except ValueError:
        return False
    return moment is None or value in (moment.isoformat(), moment.date().isoformat())
