"""The encode job: manifest to stored embeddings. Decoding runs in children while the model works.

Safe to interrupt at any point and to run again: what is stored is skipped by digest, a video is stored whole or not
at all, and everything refused is listed with its reason while the rest goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from encoder.child import ClipFrames
from encoder.crop import with_track
from encoder.decoder import DecodeLimits
from encoder.embed import Embedder
from encoder.manifest import Manifest, ManifestRow
from encoder.picture import shows_nothing
from encoder.reading import ERASED, Event, Job, Reader, job_reader, reading
from encoder.weights import Encoder
from index.committer import Committer
from index.errors import InvalidInput, Unreachable
from index.records import CLIP_SECONDS, Clip, EmbeddedClip, Video, clip_id
from index.schema import NO_PICTURE
from index.store import Store

_COMMIT_CLIPS = 512
_COMMIT_EVERY_S = 30.0
_PAUSES_S = (1, 2, 5, 10, 20, 30, 30, 30, 30, 30, 30, 30, 30, 30)
"""Between the tries to store what is embedded while object storage is away: about five minutes in all."""
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
        clips_embedded: that went through the model, whatever became of their video.
        clips_written: newly stored.
        clips_skipped: stored already, by digest; not decoded.
        clips_blank: newly stored clips without a picture (black, one colour, a still frame): no hits, no vote.
        videos_written: with at least one new clip.
        videos_updated: whose label, tags or patient changed, vectors untouched.
        refused: not stored, with the reason.
        salvaged: damaged, and stored up to the damage only.
        same_content: video ids that share one file's content, those that were stored before included; each has its own
            vote and hit.
        seconds: whole job, and of it until the first video was begun (opening the store, loading a bed detector), in
            the model, waiting for frames, and committing.
        clips_per_s_at_most: what the device's rate in matrix products would allow; 0 where it was not measured.
    """

    clips_embedded: int = 0
    clips_written: int = 0
    clips_skipped: int = 0
    clips_blank: int = 0
    videos_written: int = 0
    videos_updated: int = 0
    refused: list[Refusal] = field(default_factory=list)
    salvaged: list[Refusal] = field(default_factory=list)
    same_content: list[tuple[str, ...]] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("starting", "model", "waiting", "committing", "total"), 0.0)
    )
    clips_per_s_at_most: float = 0.0

    def where_time_goes(self) -> str:
        """Clips a second, and what the time went into, in words."""
        total = self.seconds["total"]
        if not total or not self.clips_embedded:
            return ""
        share = {name: seconds / total for name, seconds in self.seconds.items()}
        words = f"{self.clips_embedded / total:.2f} clips/s: {share['model']:.0%} in the model"
        if self.seconds["model"] and self.clips_per_s_at_most:
            reached = self.clips_embedded / self.seconds["model"] / self.clips_per_s_at_most
            words += f" (at {reached:.0%} of the hardware's limit)"
        words += f", {share['waiting']:.0%} waiting for frames, {share['committing']:.0%} committing"
        return f"{words}, {share['starting']:.0%} starting"


Vectors = Iterable[NDArray[np.float32]]
_Begun = tuple[list[Event], Callable[[], Vectors]]
"""Events of a batch that the model works on, and what gives their embeddings."""

EmbeddedEvent = tuple[Job, EmbeddedClip | None, int]
"""An embedded clip of a video, or None: it has no more; and the clips of the whole video. Clips come in order."""

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
        Locked: another process is writing to the store.
        DiskFull: what was committed before is kept.
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

    with store.committing(encoder.encoder_id, encoder.model.embedding_dim) as committer:
        run = _Run(committer, report, tell, salvage=salvage)
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


class _Run:
    """The consuming side: clips to whole videos, those to the store."""

    def __init__(
        self, committer: Committer, report: EncodeReport, progress: Callable[[float], None], *, salvage: bool
    ) -> None:
        self._committer = committer
        self._report = report
        self._progress = progress
        self._salvage = salvage
        self._finished: list[tuple[Video, list[EmbeddedClip]]] = []
        self._updated: list[Video] = []
        self._files: dict[str, str] = {}
        self._last_commit = time.monotonic()
        self._done = 0
        self._parts: dict[str, float] = {}

    def consume(self, events: Iterator[EmbeddedEvent]) -> None:
        for job, embedded, clip_count in events:
            if embedded is None:
                self._parts.pop(job.row.video_id, None)
                self._finish(job)
            else:
                job.clips.append(embedded)
                self._parts[job.row.video_id] = len(job.clips) / max(clip_count, len(job.clips))
            self._progress(self._done + sum(self._parts.values()))
        self.commit()

    def _finish(self, job: Job) -> None:
        """Hand a whole video on."""
        clips, job.clips = job.clips, []  # the list of jobs must not keep every vector to the end
        salvaged = job.damaged and self._salvage
        if salvaged:
            clips = [embedded for embedded in clips if embedded.clip.valid_seconds == CLIP_SECONDS]
        with suppress(Unreachable):  # it is asked again before anything is stored
            if self._committer.erased({job.row.patient_id}):
                job.reason, clips, salvaged = ERASED, [], False  # since the job began
        if job.stored is not None and not job.reason:
            self._update(job, job.stored)
        elif job.reason and not (salvaged and clips):
            self._report.refused.append(Refusal(job.row.video_id, job.row.file_name, job.reason))
        else:
            if job.damaged:
                self._report.salvaged.append(Refusal(job.row.video_id, job.row.file_name, job.reason))
            self._report.clips_blank += sum(embedded.crop.startswith(NO_PICTURE) for embedded in clips)
            self._finished.append((_video(job, clips), clips))
        self._files[job.row.video_id] = job.row.file_name
        self._done += 1
        due = time.monotonic() - self._last_commit > _COMMIT_EVERY_S
        if due or sum(len(clips) for _, clips in self._finished) >= _COMMIT_CLIPS:
            self.commit()

    def _update(self, job: Job, stored: Video) -> None:
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
        """Store the videos that are finished, but for patients who have been erased meanwhile.

        What is embedded is not given up while object storage is away: it is tried again for some minutes.

        Raises:
            Unreachable: If it stayed away.
        """
        for pause_s in _PAUSES_S:
            try:
                return self._commit()
            except Unreachable:
                self._progress(self._done + sum(self._parts.values()))
                time.sleep(pause_s)
                with suppress(Unreachable):
                    self._committer.reload()
        return self._commit()

    def _commit(self) -> None:
        waiting = [*(video for video, _ in self._finished), *self._updated]
        erased = self._committer.erased({video.patient_id for video in waiting})
        for video in waiting:
            if video.patient_id in erased:
                self._report.refused.append(Refusal(video.video_id, self._files[video.video_id], ERASED))
        self._finished = [held for held in self._finished if held[0].patient_id not in erased]
        self._updated = [video for video in self._updated if video.patient_id not in erased]
        self._committer.update_videos(self._updated)
        self._updated = []
        if self._finished:
            started = time.monotonic()
            self._report.clips_written += self._committer.commit(self._finished)
            self._report.videos_written += len(self._finished)
            self._report.seconds["committing"] += time.monotonic() - started
            self._finished = []
        self._files = {}
        self._last_commit = time.monotonic()


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


def _video(job: Job, clips: list[EmbeddedClip]) -> Video:
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
        metadata=row.metadata,
    )
