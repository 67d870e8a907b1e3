"""The encode job: manifest to stored embeddings. Decoding runs in children while the model works.

Safe to interrupt at any point and to run again: what is stored is skipped by digest, a video is stored whole or not
at all, and everything refused is listed with its reason while the rest continues.
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

from encoder.job.digests import FileDigests
from encoder.job.events import ClipReady, DecodingEvent, EmbeddingEvent, VideoDone, clip_of, stored_crop
from encoder.job.reading import Reader, job_reader, reading
from encoder.job.report import EncodeReport
from encoder.job.storing import Storing
from encoder.manifest import Manifest, ManifestRow
from encoder.model.embed import Embedder
from encoder.model.identity import Encoder
from encoder.picture import shows_nothing
from encoder.video.decoder import DecodeLimits
from index.errors import InvalidInput
from index.files.kept_digests import KeptDigests
from index.records import EmbeddedClip
from index.tables.committer import committing
from index.tables.store import Store
from index.tables.unfinished import Unfinished

Progress = Callable[[float, int, str], None]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to run the job; nothing here changes an embedding.

    Attributes:
        batch: clips handed to the model at once; a GPU embeds them together, a CPU one by one.
        decoders: videos decoded at once, each in a child process.
        salvage: of a damaged file, keep the whole clips before the damage.
        limits: of a decoding child.
        rehash: read files again whose size and times of change are those of an earlier job.
    """

    batch: int = 8
    decoders: int = 1
    salvage: bool = False
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    rehash: bool = False

    def __post_init__(self) -> None:
        if min(self.batch, self.decoders) < 1:
            raise InvalidInput(f"expected a batch and decoders of at least 1, got {self.batch} and {self.decoders}")


Vectors = Iterable[NDArray[np.float32]]
_Begun = tuple[list[DecodingEvent], Callable[[], Vectors]]
"""Events of a batch that the model works on, and what gives their embeddings."""

Engine = Callable[[Reader, Sequence[ManifestRow], EncodeReport], AbstractContextManager[Iterator[EmbeddingEvent]]]
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
        embedder: computes embeddings.
        store: to write to.
        options: how to run it.
        progress: told (videos done, a part of one for each clip; videos in all; speed and where the time goes).

    Raises:
        Locked: If another process is writing to the store.
        DiskFull: If no space is left; what was committed before is kept.
    """
    options = options or EncodeOptions()
    engine = local_engine(embedder, options)
    return encode_with(
        *(engine, manifest, embedder.encoder, store),
        salvage=options.salvage,
        rehash=options.rehash,
        progress=progress,
    )


def encode_with(
    engine: Engine,
    manifest: Manifest,
    encoder: Encoder,
    store: Store,
    *,
    salvage: bool = False,
    same_recording: bool = False,
    rehash: bool = False,
    progress: Progress = lambda done, total, now: None,
    report: EncodeReport | None = None,
) -> EncodeReport:
    """The same as `encode`, with the work done elsewhere, and told in `report` as it goes where one is given.

    `same_recording` allows one recording to be stored for several patients; `rehash` reads every file again instead of
    believing what an earlier job has kept of those whose size and times are the same.
    """
    report = report or EncodeReport()
    started = time.monotonic()
    total = len(manifest.rows)

    def tell(done: float) -> None:
        report.seconds["total"] = time.monotonic() - started
        progress(done, total, report.where_time_goes())

    with committing(store, encoder.encoder_id, encoder.model.embedding_dim) as committer:
        unfinished = Unfinished(store.workspace)
        unfinished.drop_patients(committer.erased(unfinished.patients()))
        run = Storing(committer, report, tell, unfinished, encoder.encoder_id, salvage=salvage)
        tell(0)
        kept = KeptDigests(store.workspace.digests)
        kept.forget(committer.erased(kept.patients()))
        digests = FileDigests(None if manifest.opened else kept, rehash=rehash)
        reader = job_reader(
            *(manifest, encoder, store), same_recording=same_recording, unfinished=unfinished, digests=digests
        )
        with engine(reader, manifest.rows, report) as events:
            report.seconds["starting"] = time.monotonic() - started
            try:
                run.consume(events)
            except BaseException:  # Ctrl-C above all
                run.commit()  # whole videos that wait for their batch; the rest is decoded again next time
                raise
        report.same_content = run.same_content(manifest.rows)
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
        options: the job's.
        stop: once set, no more clips come.
    """
    config = embedder.encoder.model.config

    @contextmanager
    def engine(reader: Reader, rows: Sequence[ManifestRow], report: EncodeReport) -> Iterator[Iterator[EmbeddingEvent]]:
        report.clips_per_s_at_most = embedder.clips_per_s_at_most()
        shape = (config.num_frames, config.image_size)
        reader = reader.looking_for_beds(embedder.encoder.bed_detector(embedder.device), options.limits)
        with reading(reader, rows, shape, options.decoders, 2 * options.batch, options.limits, stop) as events:
            yield _embedded(events, embedder, options.batch, report)

    return engine


def _embedded(
    events: Iterator[DecodingEvent], embedder: Embedder, batch: int, report: EncodeReport
) -> Iterator[EmbeddingEvent]:
    """Frames to embeddings, `batch` clips at a time; the order stays."""
    held: list[DecodingEvent] = []
    begun: deque[_Begun] = deque()
    waiting_since = time.monotonic()
    for event in events:
        report.seconds["waiting"] += time.monotonic() - waiting_since
        held.append(event)
        clips = _frames(held)
        if len(clips) == batch or not (clips or begun):  # an end behind clips waits with them
            begun.append((held, _begun(clips, embedder, report)))
            held = []
            while len(begun) > (embedder.batches_ahead if clips else 0):
                yield from _finished(*begun.popleft(), report)
        waiting_since = time.monotonic()
    clips = _frames(held)
    begun.append((held, _begun(clips, embedder, report)))
    while begun:
        yield from _finished(*begun.popleft(), report)


def _begun(clips: list[NDArray[np.uint8]], embedder: Embedder, report: EncodeReport) -> Callable[[], Vectors]:
    started = time.monotonic()
    finish = embedder.begin(clips) if clips else list
    report.seconds["model"] += time.monotonic() - started
    return finish


def _frames(held: list[DecodingEvent]) -> list[NDArray[np.uint8]]:
    return [event.content.frames for event in held if isinstance(event, ClipReady)]


def _finished(
    held: list[DecodingEvent], finish: Callable[[], Vectors], report: EncodeReport
) -> Iterator[EmbeddingEvent]:
    started = time.monotonic()
    vectors = iter(finish())
    report.seconds["model"] += time.monotonic() - started
    report.clips_embedded += len(_frames(held))
    for event in held:
        if isinstance(event, VideoDone):
            yield event
        else:
            crop = stored_crop(event.row, event.crop, blank=shows_nothing(event.content.frames))
            clip = clip_of(event.row, event.source_sha256, event.content)
            embedded = EmbeddedClip(clip, next(vectors), crop)
            yield ClipReady(event.row, embedded, event.clip_count, event.source_sha256, event.crop)
