"""What happens to a video in an encode job: its clips become ready, one after another, and then it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from encoder.bed.crop import CutFrom, with_source
from encoder.manifest import ManifestRow
from encoder.video.worker_process import ClipFrames
from index.records import CLIP_SECONDS, Clip, EmbeddedClip, Video, clip_id
from index.tables.schema import NO_PICTURE

Content = TypeVar("Content", ClipFrames, EmbeddedClip)


@dataclass(frozen=True, slots=True)
class ClipReady(Generic[Content]):
    """A clip: decoded, later embedded. Clips of one video come in order, before its end.

    Attributes:
        row: the manifest's.
        content: frames, or an embedding.
        clip_count: clips of the whole video, as far as its container says.
        source_sha256: of the file.
        crop: what part of the picture was used, as `str(UsedCrop)`.
    """

    row: ManifestRow
    content: Content
    clip_count: int
    source_sha256: str
    crop: str


@dataclass(frozen=True, slots=True)
class VideoDone:
    """A video that has no more clips, and what became of it.

    Attributes:
        row: the manifest's.
        source_sha256: of the file; empty where it could not be read.
        crop: what part of the picture was used; empty where none was looked at.
        stored: what the store has of just this content, where nothing had to be done.
        stored_patient_id: whose its stored clips are.
        copy_of: other stored videos that have just this content, and may have it.
        reason: it was refused for; empty where it was not.
        damaged: the clips before the damage are right.
        kept: its first clips, embedded in an earlier run that did not come to the video's end.
    """

    row: ManifestRow
    source_sha256: str = ""
    crop: str = ""
    stored: Video | None = None
    stored_patient_id: str = ""
    copy_of: tuple[str, ...] = ()
    reason: str = ""
    damaged: bool = False
    kept: tuple[EmbeddedClip, ...] = ()


DecodingEvent = ClipReady[ClipFrames] | VideoDone
EmbeddingEvent = ClipReady[EmbeddedClip] | VideoDone


def clip_of(row: ManifestRow, source_sha256: str, frames: ClipFrames) -> Clip:
    """What the store knows of a clip beside its embedding."""
    return Clip(
        clip_id=clip_id(source_sha256, row.video_id, frames.start_s),
        video_id=row.video_id,
        patient_id=row.patient_id,
        clip_index=frames.clip_index,
        start_s=frames.start_s,
        valid_seconds=frames.valid_seconds,
    )


def stored_crop(row: ManifestRow, crop: str, *, blank: bool) -> str:
    """What the store keeps of the part of the picture that was embedded; where there was no picture it says that."""
    used = with_source(crop, CutFrom(row.track, str(row.segment), row.stride_s or CLIP_SECONDS))
    return f"{NO_PICTURE} {used}".rstrip() if blank else used
