"""Decoding a whole manifest for training: several videos at once, each in a child process, in the manifest's order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder.bed.crop import CutFrom, with_source
from encoder.job.digests import FileDigests
from encoder.manifest import Manifest, ManifestRow
from encoder.picture import shows_nothing
from encoder.video.decoder import Decoder, DecoderPool
from index.errors import InvalidInput, VideoRefused
from index.records import BACKGROUND, CLIP_SECONDS
from index.tables.recording import RECORDING_ID, file_begins
from trainer.clips import LeftOut, TrainingClip, TrainingClips

Progress = Callable[[int, int], None]
Found = TypeVar("Found")


def decode_all(
    manifest: Manifest, num_frames: int, size: int, decoders: int, progress: Progress = lambda done, total: None
) -> TrainingClips:
    """Decode every clip of a manifest into memory, `decoders` videos at a time, each in a child process.

    Raises:
        InvalidInput: If no video can be read.
    """
    frames: list[NDArray[np.uint8]] = []
    clips, left_out = decode_each(manifest, num_frames, size, decoders, progress, frames.append)
    return TrainingClips(np.stack(frames), clips, left_out)


def decode_each(
    manifest: Manifest,
    num_frames: int,
    size: int,
    decoders: int,
    progress: Progress,
    keep: Callable[[NDArray[np.uint8]], object],
) -> tuple[tuple[TrainingClip, ...], tuple[LeftOut, ...]]:
    """Hand every clip's frames to `keep`, in the order of the manifest; a video that breaks off gives none."""
    digests = FileDigests()

    def decode(
        decoder: Decoder, row: ManifestRow
    ) -> tuple[str, list[tuple[NDArray[np.uint8], float, float]]] | LeftOut:
        try:
            source = manifest.source(row)
            found = decoder.decode(source, row.crop)
            return digests.of(source), [(clip.frames, clip.start_s, clip.valid_seconds) for clip in found]
        except VideoRefused as refused:
            return LeftOut(row.video_id, str(refused))
        except OSError as error:
            return LeftOut(row.video_id, f"the file can't be read: {error.strerror}")

    clips: list[TrainingClip] = []
    left_out: list[LeftOut] = []
    outcomes = each_video(manifest, decode, num_frames, size, decoders, progress)
    for row, outcome in zip(manifest.rows, outcomes, strict=True):
        if isinstance(outcome, LeftOut):
            left_out.append(outcome)
            continue
        digest, decoded = outcome
        shown = [(number, *clip) for number, clip in enumerate(decoded) if not shows_nothing(clip[0])]
        if not shown:
            left_out.append(LeftOut(row.video_id, "no picture: black, one colour, or a still frame"))
        for number, picture, begins_s, valid_seconds in shown:
            keep(picture)
            clips.append(
                TrainingClip(
                    *(row.video_id, row.patient_id, number, row.label, row.split, row.camera, digest),
                    crop=crop_text(row),
                    file_bytes=file_bytes(manifest, row),
                    valid_seconds=valid_seconds,
                    begins_s=begins_s,
                    tags=row.semiology,
                    **_recorded(row),
                )
            )
    if not clips:
        raise InvalidInput(f"none of {len(manifest.rows)} videos can be read; the first: {left_out[0].reason}")
    return tuple(clips), tuple(left_out)


def each_video(
    manifest: Manifest,
    work: Callable[[Decoder, ManifestRow], Found],
    num_frames: int,
    size: int,
    decoders: int,
    progress: Progress,
) -> Iterator[Found]:
    """What `work` finds in each video, in order, `decoders` of them at a time and not many more in memory."""
    pool = DecoderPool(decoders, num_frames, size)
    waiting: deque[Future[Found]] = deque()

    def task(row: ManifestRow) -> Found:
        with pool.decoder_for(manifest.folder / row.file_name) as decoder:
            return work(decoder, row)

    rows = manifest.rows
    progress(0, len(rows))
    with pool, ThreadPoolExecutor(decoders) as threads:
        try:
            done = 0
            for row in rows:
                waiting.append(threads.submit(task, row))
                if len(waiting) > decoders:
                    yield waiting.popleft().result()
                    done += 1
                    progress(done, len(rows))
            for future in waiting:
                yield future.result()
                done += 1
                progress(done, len(rows))
        finally:
            pool.interrupt()
            threads.shutdown(cancel_futures=True)


def as_described(clips: TrainingClips, manifest: Manifest) -> TrainingClips:
    """The clips with what a manifest says of their seizures and recordings, which a frame cache may lack."""
    rows = {row.video_id: row for row in manifest.rows}

    def after_begin(row: ManifestRow, seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds - row.start_s, 3)

    described = (
        replace(
            clip,
            onset_s=after_begin(rows[clip.video_id], rows[clip.video_id].onset_s),
            seizure_end_s=after_begin(rows[clip.video_id], rows[clip.video_id].seizure_end_s),
            **_recorded(rows[clip.video_id]),
        )
        for clip in clips.clips
    )
    return replace(clips, clips=tuple(described))


def crop_text(row: ManifestRow) -> str:
    """A row's track, segment and crop; empty for the whole picture of all of the only film."""
    return with_source(str(row.crop or ""), CutFrom(row.track, str(row.segment), row.stride_s or CLIP_SECONDS))


def _recorded(row: ManifestRow) -> dict[str, Any]:
    """What a row says of the recording that its video is a part of: fields of a `TrainingClip`."""
    began = file_begins(row.recorded_at, row.start_s)
    return {
        "recording_id": dict(row.metadata).get(RECORDING_ID, ""),
        "file_began": began.isoformat() if began else "",
        "background": BACKGROUND in row.metadata,
    }


def file_bytes(manifest: Manifest, row: ManifestRow) -> int:
    """Size of a video's file; 0 where it can't be read."""
    try:
        return manifest.path_of(row).stat().st_size
    except (VideoRefused, OSError):
        return 0
