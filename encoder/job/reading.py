"""The producing side of the encode job: manifest rows to clips with their frames, several videos at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from encoder.bed.cohort_beds import BedFinder, Watch
from encoder.bed.crop import CropPolicy, follows, track_and_crop
from encoder.bed.detector import Detector, OneAtATime
from encoder.job.identity import Copies, copies
from encoder.manifest import Manifest, ManifestRow
from encoder.model.folder import Encoder
from encoder.picture import Crop
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.worker_process import Choose, ClipFrames
from index.errors import StateError, VideoRefused
from index.files.durable import sha256_of_file
from index.records import EmbeddedClip, Video
from index.tables.store import EncodedVideo, Store

ERASED = "its patient was erased from this workspace and is not taken in again"
"""Why the videos of an erased patient are refused."""
_LOOKS_S = 0.2
"""So often one that waits looks whether it is to stop."""


@dataclass(slots=True)
class Job:
    """One video on its way.

    The reader sets the digest, the crop, what is stored of the video (and for which patient), and why and how it
    failed before it announces the end; only then does the consumer look.

    Attributes:
        row: of the manifest.
        source_sha256: of the file.
        crop: what part of the picture was used, as `str(UsedCrop)`; set before the first clip.
        stored: what the store has of just this content, when nothing has to be done.
        patient_id: whose its stored clips are.
        copy_of: other stored videos that have just this content, and may have it.
        clips: embedded so far.
        reason: it failed for, or empty.
        damaged: the clips before the damage are right.
    """

    row: ManifestRow
    source_sha256: str = ""
    crop: str = ""
    stored: Video | None = None
    patient_id: str = ""
    copy_of: tuple[str, ...] = ()
    clips: list[EmbeddedClip] = field(default_factory=list)
    reason: str = ""
    damaged: bool = False


Event = tuple[Job, ClipFrames | None]
"""A clip of a video, or None: it has no more. Clips of one video come in order, before its end."""

EmbeddedEvent = tuple[Job, EmbeddedClip | None, int]
"""An embedded clip of a video, or None: it has no more; and the clips of the whole video. Clips come in order."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What it takes to read one video after another.

    Attributes:
        manifest: names their files.
        encoded: what the clip table holds, by video id.
        videos: what the videos table holds, by video id.
        policy: of the encoder, None where it takes whole pictures.
        beds: finds them; None where no picture is decoded, or the encoder has no policy.
        erased: patients of the manifest that are not taken in again.
        copies: videos of the same content; None where nothing is stored.
    """

    manifest: Manifest
    encoded: Mapping[str, EncodedVideo]
    videos: Mapping[str, Video]
    policy: CropPolicy | None = None
    beds: BedFinder | None = None
    erased: frozenset[str] = frozenset()
    copies: Copies | None = None

    def looking_for_beds(self, detector: Detector | None, limits: DecodeLimits, watch: Watch | None = None) -> Reader:
        """The same reader, able to choose crops by the encoder's policy; as it is where there is no detector.

        Args:
            detector: of the encoder.
            limits: of a decoding child.
            watch: is told each choice.
        """
        if detector is None or self.policy is None:
            return self
        known = (self.manifest, self.encoded, self.videos)
        return replace(self, beds=BedFinder(OneAtATime(detector), self.policy, *known, limits, watch))

    def read(self, job: Job, decoder: Decoder) -> Iterator[ClipFrames]:
        """Frames of a video's clips; none, and `job.stored` set, when they are stored; or `job.reason` set."""
        try:
            yield from self._read(job, decoder)
        except VideoRefused as refused:
            job.reason, job.damaged = str(refused), refused.damaged

    def _read(self, job: Job, decoder: Decoder) -> Iterator[ClipFrames]:
        if job.row.patient_id in self.erased:
            raise VideoRefused(ERASED)
        path = self.manifest.path_of(job.row)
        try:
            before = path.stat()
            job.source_sha256 = sha256_of_file(path)
            if self.copies is not None:
                job.copy_of = self.copies.beside(job.row, job.source_sha256)
            stored = self._is_stored(job)
            if self.copies is not None and (not stored or job.patient_id != job.row.patient_id):
                self.copies.check(job.row, job.source_sha256)
            if stored:
                job.stored = self.videos[job.row.video_id]
                return
            yield from decoder.decode(path, self._crop(job), job.row.track)
            after = path.stat()
        except OSError as error:
            raise VideoRefused(f"the file can't be read: {error.strerror}") from None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise VideoRefused("the file changed while it was read: encode it again once it is complete")

    def _crop(self, job: Job) -> Crop | Choose | None:
        """What part of the picture the decoder is to use; `job.crop` is set by then, or by who chooses it."""
        beds = self.beds
        if beds is None:
            job.crop = str(job.row.crop or "")
            return job.row.crop

        def choose(picture: NDArray[np.uint8]) -> Crop | None:
            used = beds.choose(job.row, picture)
            job.crop = str(used)
            return used.box

        return choose

    def _is_stored(self, job: Job) -> bool:
        """Whether clips and video row of just this content are there; a crash between the two leaves one of them."""
        clips, video = self.encoded.get(job.row.video_id), self.videos.get(job.row.video_id)
        if clips is None or video is None or {clips.source_sha256, video.source_sha256} != {job.source_sha256}:
            return False
        track, crop = track_and_crop(clips.crop)
        if track != job.row.track or not follows(crop, job.row.crop, self.policy):
            return False
        job.patient_id = clips.patient_id
        return True


def job_reader(manifest: Manifest, encoder: Encoder, store: Store, *, same_recording: bool = False) -> Reader:
    """The reader of a manifest for an encoder, with what a store holds; it may not be there yet.

    Args:
        manifest: what is to be read.
        encoder: for which.
        store: where to.
        same_recording: whether one recording may be stored for several patients.
    """
    try:
        encoded, videos = store.encoded(encoder.encoder_id), store.videos()
    except StateError:
        encoded, videos = {}, {}
    erased = store.erased({row.patient_id for row in manifest.rows})
    same = copies(manifest, videos.values(), allowed=same_recording)
    return Reader(manifest, encoded, videos, encoder.crop, erased=frozenset(erased), copies=same)


@contextmanager
def reading(
    reader: Reader,
    jobs: Sequence[Job],
    frame_shape: tuple[int, int],
    decoders: int,
    ahead: int,
    limits: DecodeLimits,
    stop: threading.Event | None = None,
) -> Iterator[Iterator[Event]]:
    """Clips of all jobs as they are decoded.

    Args:
        reader: reads one video.
        jobs: the videos.
        frame_shape: (T, S) of a clip; T of 0 decodes nothing and gives clips without frames.
        decoders: videos decoded at once.
        ahead: clips that may wait for the consumer; then decoding waits.
        limits: of a decoding child.
        stop: once set, no more clips come, whatever the videos hold; set at the end too.
    """
    events: queue.Queue[Event | BaseException | None] = queue.Queue(maxsize=ahead)
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop = threading.Event() if stop is None else stop
    children = [Decoder(*frame_shape, limits) for _ in range(min(decoders, len(jobs)))]

    def put(event: Event | BaseException | None) -> None:
        while not stop.is_set():
            try:
                events.put(event, timeout=_LOOKS_S)
            except queue.Full:
                continue
            return

    def work(decoder: Decoder) -> None:
        try:
            while not stop.is_set():
                job = waiting.get_nowait()
                for frames in reader.read(job, decoder):
                    put((job, frames))
                    if stop.is_set():
                        return
                put((job, None))
        except queue.Empty:
            put(None)
        except BaseException as error:  # noqa: BLE001  a bug in this thread must end the job, not hang it
            put(error)

    threads = [threading.Thread(target=work, args=(decoder,), daemon=True) for decoder in children]

    def drain() -> Iterator[Event]:
        working = len(threads)
        while working:
            try:
                event = events.get(timeout=_LOOKS_S)
            except queue.Empty:
                if stop.is_set():
                    return
                continue
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
        if reader.beds is not None:
            reader.beds.interrupt()
        for decoder in children:
            decoder.interrupt()
        for thread, decoder in zip(threads, children, strict=True):
            thread.join()
            decoder.close()
