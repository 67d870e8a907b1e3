"""The encode job: manifest to stored embeddings. Decoding runs in children while the model works.

Safe to interrupt at any point and to run again: what is stored is skipped by digest, a video is stored whole or not
at all, and everything refused is listed with its reason while the rest goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from encoder.bed.crop import with_track
from encoder.job.reading import EmbeddedEvent, Event, Job, Reader, job_reader, reading
from encoder.job.report import EncodeReport
from encoder.job.storing import Storing
from encoder.manifest import Manifest
from encoder.model.embed import Embedder
from encoder.model.folder import Encoder
from encoder.picture import shows_nothing
from encoder.video.decoder import DecodeLimits
from encoder.video.worker_process import ClipFrames
from index.errors import InvalidInput
from index.records import Clip, EmbeddedClip, clip_id
from index.tables.committer import committing
from index.tables.schema import NO_PICTURE
from index.tables.store import Store

Progress = Callable[[float, int, str], None]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to run the job; nothing here changes an embedding.

    Attributes:
        batch: clips handed to the model at once; a GPU embeds them together, a CPU one by one.
        decoders: videos decoded at once, each in a child process.
        salvage: of a damaged file, keep the whole clips before the damage.
        limits: of a decoding child.
    """

    batch: int = 8
    decoders: int = 1
    salvage: bool = False
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        if min(self.batch, self.decoders) < 1:
            raise InvalidInput(f"expected a batch and decoders of at least 1, got {self.batch} and {self.decoders}")


Vectors = Iterable[NDArray[np.float32]]
_Begun = tuple[list[Event], Callable[[], Vectors]]
"""Events of a batch that the model works on, and what gives their embeddings."""

Engine = Callable[[Reader, Sequence[Job], EncodeReport], AbstractContextManager[Iterator[EmbeddedEvent]]]
"""Where clips are decoded and embedded; what comes out is assembled and stored in one place."""


def encode(
    manifest: Manifest,
    embedder: Embedder,
    store: Store,
    options: EncodeOptions | None = None,
    progress: Progress = lambda done, total, now: None,
) -> EncodeReport:
    """Embed and store every video of a manifest that is not stored yet.

    Args:
        manifest: what to encode.
        embedder: with what.
        store: where to.
        options: how.
        progress: told (videos done, a part of one for each clip; videos in all; speed and where the time goes).

    Raises:
        Locked: If another process is writing to the store.
        DiskFull: If no space is left; what was committed before is kept.
    """
    options = options or EncodeOptions()
    engine = local_engine(embedder, options)
    return encode_with(engine, manifest, embedder.encoder, store, salvage=options.salvage, progress=progress)


def encode_with(
    engine: Engine,
    manifest: Manifest,
    encoder: Encoder,
    store: Store,
    *,
    salvage: bool = False,
    same_recording: bool = False,
    progress: Progress = lambda done, total, now: None,
    report: EncodeReport | None = None,
) -> EncodeReport:
    """The same as `encode`, with the work done elsewhere, and told in `report` as it goes where one is given.

    `same_recording` allows one recording to be stored for several patients.
    """
    report = report or EncodeReport()
    started = time.monotonic()
    total = len(manifest.rows)

    def tell(done: float) -> None:
        report.seconds["total"] = time.monotonic() - started
        progress(done, total, report.where_time_goes())

    with committing(store, encoder.encoder_id, encoder.model.embedding_dim) as committer:
        run = Storing(committer, report, tell, salvage=salvage)
        tell(0)
        jobs = [Job(row) for row in manifest.rows]
        reader = job_reader(manifest, encoder, store, same_recording=same_recording)
        with engine(reader, jobs, report) as events:
            report.seconds["starting"] = time.monotonic() - started
            try:
                run.consume(events)
            except BaseException:  # Ctrl-C above all
                run.commit()  # whole videos that wait for their batch; the rest is decoded again next time
                raise
        report.same_content = _same_content(jobs)
        if report.videos_written > 1:
            committer.compact()
    order = {row.video_id: number for number, row in enumerate(manifest.rows)}
    for refusals in (report.refused, report.salvaged):
        refusals.sort(key=lambda refusal: order[refusal.video_id])
    report.seconds["total"] = time.monotonic() - started
    return report


def local_engine(embedder: Embedder, options: EncodeOptions, stop: threading.Event | None = None) -> Engine:
    """Decoding in children of this process, the model in this process.

    Args:
        embedder: the model.
        options: of the job.
        stop: once set, no more clips come.
    """
    config = embedder.encoder.model.config

    @contextmanager
    def engine(reader: Reader, jobs: Sequence[Job], report: EncodeReport) -> Iterator[Iterator[EmbeddedEvent]]:
        report.clips_per_s_at_most = embedder.clips_per_s_at_most()
        shape = (config.num_frames, config.image_size)
        reader = reader.looking_for_beds(embedder.encoder.bed_detector(embedder.device), options.limits)
        with reading(reader, jobs, shape, options.decoders, 2 * options.batch, options.limits, stop) as events:
            yield _embedded(events, embedder, options.batch, report)

    return engine


def _embedded(events: Iterator[Event], embedder: Embedder, batch: int, report: EncodeReport) -> Iterator[EmbeddedEvent]:
    """Frames to embeddings, `batch` clips at a time; the order stays."""
    held: list[Event] = []
    begun: deque[_Begun] = deque()
    waiting_since = time.monotonic()
    for event in events:
        report.seconds["waiting"] += time.monotonic() - waiting_since
        held.append(event)
        clips = [frames.frames for _, frames in held if frames is not None]
        if len(clips) == batch or not (clips or begun):  # an end behind clips waits with them
            begun.append((held, _begun(clips, embedder, report)))
            held = []
            while len(begun) > (embedder.batches_ahead if clips else 0):
                yield from _finished(*begun.popleft(), report)
        waiting_since = time.monotonic()
    clips = [frames.frames for _, frames in held if frames is not None]
    begun.append((held, _begun(clips, embedder, report)))
    while begun:
        yield from _finished(*begun.popleft(), report)


def _begun(clips: list[NDArray[np.uint8]], embedder: Embedder, report: EncodeReport) -> Callable[[], Vectors]:
    started = time.monotonic()
    finish = embedder.begin(clips) if clips else list
    report.seconds["model"] += time.monotonic() - started
    return finish


def _finished(held: list[Event], finish: Callable[[], Vectors], report: EncodeReport) -> Iterator[EmbeddedEvent]:
    started = time.monotonic()
    vectors = iter(finish())
    report.seconds["model"] += time.monotonic() - started
    report.clips_embedded += sum(frames is not None for _, frames in held)
    for job, frames in held:
        if frames is None:
            yield job, None, 0
        else:
            crop = crop_of(job, blank=shows_nothing(frames.frames))
            yield job, EmbeddedClip(clip_of(job, frames), next(vectors), crop), frames.clip_count


def _same_content(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """Ids of videos whose files are the same byte for byte; those that were refused are told elsewhere."""
    owners: dict[str, dict[str, None]] = {}
    for job in jobs:
        if job.source_sha256 and not job.reason:
            owners.setdefault(job.source_sha256, {}).update(dict.fromkeys((job.row.video_id, *job.copy_of)))
    return [tuple(ids) for ids in owners.values() if len(ids) > 1]


def crop_of(job: Job, *, blank: bool) -> str:
    """What the store keeps of the part of the picture that was embedded; where there was no picture it says that."""
    used = with_track(job.crop, job.row.track)
    return f"{NO_PICTURE} {used}".rstrip() if blank else used


def clip_of(job: Job, frames: ClipFrames) -> Clip:
    """What the store knows of a clip beside its embedding."""
    return Clip(
        clip_id=clip_id(job.source_sha256, job.row.video_id, frames.clip_index),
        video_id=job.row.video_id,
        patient_id=job.row.patient_id,
        clip_index=frames.clip_index,
        start_s=frames.start_s,
        valid_seconds=frames.valid_seconds,
    )
