"""The encode job: manifest to stored embeddings. Decoding runs in children while the model works.

Safe to interrupt at any point and to run again: what is stored is skipped by digest, a video is stored whole or not
at all, and everything refused is listed with its reason while the rest goes on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from encoder.decoder import ClipFrames, DecodeLimits, Decoder
from encoder.embed import Embedder
from encoder.manifest import Manifest, ManifestRow
from index.errors import InvalidInput, VideoRefused
from index.files import sha256_of_file
from index.records import CLIP_SECONDS, Clip, EmbeddedClip, Video, clip_id
from index.store import Committer, EncodedVideo, Store

if TYPE_CHECKING:
    from transformers import TimesformerConfig

_COMMIT_CLIPS = 512
_COMMIT_EVERY_S = 30.0


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A video that was not stored, or not whole, and why."""

    video_id: str
    file_name: str
    reason: str


@dataclass(slots=True)
class EncodeReport:
    """What the job did.

    Attributes:
        clips_written: newly stored.
        clips_skipped: stored already, by digest; not decoded.
        videos_written: with at least one new clip.
        videos_updated: whose label, tags or patient changed, vectors untouched.
        refused: not stored, with the reason.
        salvaged: damaged, and stored up to the damage only.
        same_content: video ids that share one file's content; each is stored, and a split that parts them leaks.
        seconds: whole job, and of it in the model, waiting for frames, and committing.
    """

    clips_written: int = 0
    clips_skipped: int = 0
    videos_written: int = 0
    videos_updated: int = 0
    refused: list[Refusal] = field(default_factory=list)
    salvaged: list[Refusal] = field(default_factory=list)
    same_content: list[tuple[str, ...]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("model", "waiting", "committing"), 0.0))


@dataclass(slots=True)
class _Job:
    """One video on its way.

    The reader sets the digest, what is stored of it (and for which patient), and why and how it failed before it
    announces the end; only then does the consumer look.
    """

    row: ManifestRow
    source_sha256: str = ""
    stored: Video | None = None
    patient_id: str = ""
    clips: list[EmbeddedClip] = field(default_factory=list)
    pending: int = 0
    ended: bool = False
    reason: str = ""
    damaged: bool = False


_Event = tuple[_Job, ClipFrames | None]


def encode(
    manifest: Manifest,
    embedder: Embedder,
    store: Store,
    options: EncodeOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EncodeReport:
    """Embed and store every video of a manifest that is not stored yet.

    Args:
        manifest: what to encode.
        embedder: with what.
        store: where to.
        options: how.
        progress: told (videos done, videos in all).

    Raises:
        InvalidInput: the options are out of bounds.
        Locked: another process is writing to the store.
    """
    options = options or EncodeOptions()
    if min(options.batch, options.decoders) < 1:
        raise InvalidInput(f"expected a batch and decoders of at least 1, got {options.batch} and {options.decoders}")
    report = EncodeReport()
    started = time.monotonic()
    encoder = embedder.encoder
    with store.committing(encoder.encoder_id, encoder.model.embedding_dim) as committer:
        run = _Run(embedder, committer, options, report, lambda done: progress(done, len(manifest.rows)))
        progress(0, len(manifest.rows))
        jobs = [_Job(row) for row in manifest.rows]
        reader = _Reader(manifest, store.encoded(encoder.encoder_id), store.videos())
        with _reading(reader, jobs, encoder.model.config, options) as events:
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


class _Run:
    """The consuming side: batches for the model, whole videos for the store."""

    def __init__(
        self,
        embedder: Embedder,
        committer: Committer,
        options: EncodeOptions,
        report: EncodeReport,
        progress: Callable[[int], None],
    ) -> None:
        self._embedder = embedder
        self._committer = committer
        self._options = options
        self._report = report
        self._progress = progress
        self._batch: list[tuple[_Job, ClipFrames]] = []
        self._finished: list[tuple[Video, list[EmbeddedClip]]] = []
        self._updated: list[Video] = []
        self._last_commit = time.monotonic()
        self._done = 0

    def consume(self, events: Iterator[_Event]) -> None:
        waiting_since = time.monotonic()
        for job, frames in events:
            self._report.seconds["waiting"] += time.monotonic() - waiting_since
            if frames is None:
                job.ended = True
                self._finish(job)
            else:
                job.pending += 1
                self._batch.append((job, frames))
                if len(self._batch) == self._options.batch:
                    self._embed()
            waiting_since = time.monotonic()
        self._embed()
        self.commit()

    def _embed(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        started = time.monotonic()
        vectors = self._embedder.embed([frames.frames for _, frames in batch])
        self._report.seconds["model"] += time.monotonic() - started
        for (job, frames), vector in zip(batch, vectors, strict=True):
            job.clips.append(EmbeddedClip(_clip(job, frames), vector))
            job.pending -= 1
        for job in {id(job): job for job, _ in batch}.values():
            self._finish(job)

    def _finish(self, job: _Job) -> None:
        """Hand a video on once it has ended and all its clips are embedded."""
        if not job.ended or job.pending:
            return
        clips, job.clips = job.clips, []  # the list of jobs must not keep every vector to the end
        salvaged = job.damaged and self._options.salvage
        if salvaged:
            clips = [embedded for embedded in clips if embedded.clip.valid_seconds == CLIP_SECONDS]
        if job.stored is not None:
            self._update(job, job.stored)
        elif job.reason and not (salvaged and clips):
            self._report.refused.append(Refusal(job.row.video_id, job.row.file_name, job.reason))
        else:
            if job.damaged:
                self._report.salvaged.append(Refusal(job.row.video_id, job.row.file_name, job.reason))
            self._finished.append((_video(job, clips), clips))
        self._done += 1
        self._progress(self._done)
        due = time.monotonic() - self._last_commit > _COMMIT_EVERY_S
        if due or sum(len(clips) for _, clips in self._finished) >= _COMMIT_CLIPS:
            self.commit()

    def _update(self, job: _Job, stored: Video) -> None:
        """Bring what is known of a stored video up to date; its vectors stay."""
        self._report.clips_skipped += stored.clip_count
        wanted = _described(job.row, stored)
        if wanted.patient_id != job.patient_id:
            self._committer.reassign(wanted)
            self._report.videos_updated += 1
        elif wanted != stored:
            self._updated.append(wanted)
            self._report.videos_updated += 1

    def commit(self) -> None:
        """Store the videos that are finished."""
        updated, self._updated = self._updated, []
        self._committer.update_videos(updated)
        if self._finished:
            started = time.monotonic()
            self._report.clips_written += self._committer.commit(self._finished)
            self._report.videos_written += len(self._finished)
            self._report.seconds["committing"] += time.monotonic() - started
            self._finished = []
        self._last_commit = time.monotonic()


class _Reader:
    """The producing side, for one video at a time: digest, then frames unless it is stored already."""

    def __init__(self, manifest: Manifest, encoded: Mapping[str, EncodedVideo], videos: Mapping[str, Video]) -> None:
        self._manifest = manifest
        self._encoded = encoded
        self._videos = videos

    def read(self, job: _Job, decoder: Decoder) -> Iterator[ClipFrames]:
        """Frames of a video's clips; none, and `job.stored` set, when they are stored.

        Raises:
            VideoRefused: the file can't be used.
        """
        path = self._manifest.path_of(job.row)
        try:
            before = path.stat()
            job.source_sha256 = sha256_of_file(path)
            if self._is_stored(job):
                return
            yield from decoder.decode(path, job.row.crop)
            after = path.stat()
        except OSError as error:
            raise VideoRefused(f"the file can't be read: {error.strerror}") from None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise VideoRefused("the file changed while it was read: encode it again once it is complete")

    def _is_stored(self, job: _Job) -> bool:
        """Whether clips and video row of just this content are there; a crash between the two leaves one of them."""
        clips, video = self._encoded.get(job.row.video_id), self._videos.get(job.row.video_id)
        made_of = (job.source_sha256, str(job.row.crop or ""))
        if clips is None or video is None:
            return False
        if (clips.source_sha256, clips.crop) != made_of or (video.source_sha256, video.crop) != made_of:
            return False
        job.stored, job.patient_id = video, clips.patient_id
        return True


@contextmanager
def _reading(
    reader: _Reader, jobs: Sequence[_Job], config: TimesformerConfig, options: EncodeOptions
) -> Iterator[Iterator[_Event]]:
    """Clips of all jobs as they are decoded, `options.decoders` videos at a time."""
    events: queue.Queue[_Event | BaseException | None] = queue.Queue(maxsize=2 * options.batch)
    waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop = threading.Event()
    decoders = [
        Decoder(config.num_frames, config.image_size, options.limits) for _ in range(min(options.decoders, len(jobs)))
    ]

    def put(event: _Event | BaseException | None) -> None:
        while not stop.is_set():
            try:
                events.put(event, timeout=0.2)
            except queue.Full:
                continue
            return

    def work(decoder: Decoder) -> None:
        try:
            while not stop.is_set():
                job = waiting.get_nowait()
                try:
                    for frames in reader.read(job, decoder):
                        put((job, frames))
                        if stop.is_set():
                            return
                except VideoRefused as refused:
                    job.reason, job.damaged = str(refused), refused.damaged
                put((job, None))
        except queue.Empty:
            put(None)
        except BaseException as error:  # noqa: BLE001  a bug in this thread must end the job, not hang it
            put(error)

    threads = [threading.Thread(target=work, args=(decoder,), daemon=True) for decoder in decoders]

    def drain() -> Iterator[_Event]:
        working = len(threads)
        while working:
            event = events.get()
            if event is None:
                working -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event

    for thread in threads:
        thread.start()
    try:
        yield drain()
    finally:
        stop.set()
        for decoder in decoders:
            decoder.interrupt()
        for thread, decoder in zip(threads, decoders, strict=True):
            thread.join()
            decoder.close()


def _same_content(jobs: Sequence[_Job]) -> list[tuple[str, ...]]:
    """Ids of videos whose files are the same byte for byte."""
    owners: dict[str, list[str]] = {}
    for job in jobs:
        if job.source_sha256:
            owners.setdefault(job.source_sha256, []).append(job.row.video_id)
    return [tuple(ids) for ids in owners.values() if len(ids) > 1]


def _clip(job: _Job, frames: ClipFrames) -> Clip:
    return Clip(
        clip_id=clip_id(job.source_sha256, job.row.video_id, frames.clip_index),
        video_id=job.row.video_id,
        patient_id=job.row.patient_id,
        clip_index=frames.clip_index,
        start_s=frames.start_s,
        valid_seconds=frames.valid_seconds,
    )


def _video(job: _Job, clips: list[EmbeddedClip]) -> Video:
    video = Video(
        video_id=job.row.video_id,
        patient_id=job.row.patient_id,
        source_sha256=job.source_sha256,
        duration_s=round(sum(embedded.clip.valid_seconds for embedded in clips), 3),
        clip_count=len(clips),
        salvaged=job.damaged,
    )
    return _described(job.row, video)


def _described(row: ManifestRow, video: Video) -> Video:
    """A video with what its manifest row says of it."""
    return replace(
        video,
        patient_id=row.patient_id,
        label=row.label,
        recorded_at=row.recorded_at,
        semiology=row.semiology,
        camera=row.camera,
        crop=str(row.crop or ""),
        split=row.split,
    )
