"""Decoding a whole manifest for training: several videos at once, each in a child process, in the manifest's order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder.bed.crop import with_track
from encoder.manifest import Manifest, ManifestRow
from encoder.picture import shows_nothing
from encoder.video.decoder import Decoder
from index.errors import InvalidInput, VideoRefused
from index.files.durable import sha256_of_file
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

    def decode(decoder: Decoder, row: ManifestRow) -> tuple[str, list[NDArray[np.uint8]]] | LeftOut:
        try:
            path = manifest.path_of(row)
            return sha256_of_file(path), [clip.frames for clip in decoder.decode(path, row.crop, row.track)]
        except VideoRefused as refused:
            return LeftOut(row.video_id, str(refused))
        except OSError as error:
            return LeftOut(row.video_id, f"the file can't be read: {error.strerror}")

    clips: list[TrainingClip] = []
    left_out: list[LeftOut] = []
    outcomes = each_video(manifest.rows, decode, num_frames, size, decoders, progress)
    for row, outcome in zip(manifest.rows, outcomes, strict=True):
        if isinstance(outcome, LeftOut):
            left_out.append(outcome)
            continue
        digest, frames = outcome
        shown = [(number, picture) for number, picture in enumerate(frames) if not shows_nothing(picture)]
        if not shown:
            left_out.append(LeftOut(row.video_id, "no picture: black, one colour, or a still frame"))
        for number, picture in shown:
            keep(picture)
            clips.append(
                TrainingClip(
                    *(row.video_id, row.patient_id, number, row.label, row.split, row.camera, digest),
                    crop=crop_text(row),
                    file_bytes=file_bytes(manifest, row),
                )
            )
    if not clips:
        raise InvalidInput(f"none of {len(manifest.rows)} videos can be read; the first: {left_out[0].reason}")
    return tuple(clips), tuple(left_out)


def each_video(
    rows: Sequence[ManifestRow],
    work: Callable[[Decoder, ManifestRow], Found],
    num_frames: int,
    size: int,
    decoders: int,
    progress: Progress,
) -> Iterator[Found]:
    """What `work` finds in each video, in order, `decoders` of them at a time and not many more in memory."""
    idle: SimpleQueue[Decoder] = SimpleQueue()
    pool, waiting = ThreadPoolExecutor(decoders), deque[Future[Found]]()
    all_decoders = [Decoder(num_frames, size) for _ in range(decoders)]
    for decoder in all_decoders:
        idle.put(decoder)

    def task(row: ManifestRow) -> Found:
        decoder = idle.get()
        try:
            return work(decoder, row)
        finally:
            idle.put(decoder)

    progress(0, len(rows))
    try:
        done = 0
        for row in rows:
            waiting.append(pool.submit(task, row))
            if len(waiting) > decoders:
                yield waiting.popleft().result()
                done += 1
                progress(done, len(rows))
        for future in waiting:
            yield future.result()
            done += 1
            progress(done, len(rows))
    finally:
        for decoder in all_decoders:
            decoder.interrupt()
        pool.shutdown(cancel_futures=True)
        for decoder in all_decoders:
            decoder.close()


def crop_text(row: ManifestRow) -> str:
    """A row's track and crop; empty for the whole picture of the only film."""
    return with_track(str(row.crop or ""), row.track)


def file_bytes(manifest: Manifest, row: ManifestRow) -> int:
    """Size of a video's file; 0 where it can't be read."""
    try:
        return manifest.path_of(row).stat().st_size
    except (VideoRefused, OSError):
        return 0
