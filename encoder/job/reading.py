"""The producing side of the encode job: manifest rows to clips with their frames, several videos at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from encoder.bed.cohort_beds import BedFinder, Watch
from encoder.bed.crop import CropPolicy, CutFrom, follows, source_and_crop, used_crop
from encoder.bed.detector import Detector, OneAtATime
from encoder.clips import LastClip, Source
from encoder.job.digests import FileDigests
from encoder.job.events import ClipReady, DecodingEvent, VideoDone
from encoder.job.identity import Copies, copies
from encoder.manifest import Manifest, ManifestRow
from encoder.model.identity import Encoder
from encoder.picture import Crop
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.worker_process import Choose, ClipFrames
from index.errors import StateError, VideoRefused
from index.records import EmbeddedClip, Video
from index.tables.schema import NO_PICTURE
from index.tables.store import EncodedVideo, Store
from index.tables.unfinished import Unfinished

ERASED = "its patient was erased from this workspace and is not taken in again"
"""Why the videos of an erased patient are refused."""
_LOOKS_S = 0.2
"""So often one that waits looks whether it is to stop."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What it takes to read one video after another.

    Attributes:
        manifest: lists the videos.
        encoded: what the clip table holds, by video id.
        videos: what the videos table holds, by video id.
        policy: of the encoder, None where it takes whole pictures.
        beds: finds them; None where no picture is decoded, or the encoder has no policy.
        erased: patients of the manifest that are not taken in again.
        copies: videos of the same content; None where nothing is stored.
        last_clip: of the encoder.
        unfinished: clips of videos that an earlier run did not come to the end of; None where none are looked for.
        encoder_id: of the encoder.
        digests: of the files that have been read.
    """

    manifest: Manifest
    encoded: Mapping[str, EncodedVideo]
    videos: Mapping[str, Video]
    policy: CropPolicy | None = None
    beds: BedFinder | None = None
    erased: frozenset[str] = frozenset()
    copies: Copies | None = None
    digests: FileDigests = field(default_factory=FileDigests)
    last_clip: LastClip = LastClip.OVERLAPPING
    unfinished: Unfinished | None = None
    encoder_id: str = ""

    def looking_for_beds(self, detector: Detector | None, limits: DecodeLimits, watch: Watch | None = None) -> Reader:
        """The same reader, able to choose crops by the encoder's policy; as it is where there is no detector.

        Args:
            detector: the encoder's.
            limits: of a decoding child.
            watch: called with each choice.
        """
        if detector is None or self.policy is None:
            return self
        known = (self.manifest, self.encoded, self.videos)
        return replace(self, beds=BedFinder(OneAtATime(detector), self.policy, *known, limits, watch))

    def read(self, row: ManifestRow, decoder: Decoder) -> Iterator[DecodingEvent]:
        """A video's clips, as far as they have to be embedded, and then its end."""
        learned = _Learned()
        try:
            yield from self._clips(row, decoder, learned)
        except VideoRefused as refused:
            yield learned.done(row, str(refused), damaged=refused.damaged)
        else:
            yield learned.done(row)

    def _clips(self, row: ManifestRow, decoder: Decoder, learned: _Learned) -> Iterator[ClipReady[ClipFrames]]:
        if row.patient_id in self.erased:
            raise VideoRefused(ERASED)
        source = replace(self.manifest.source(row), last_clip=self.last_clip)
        try:
            before = [path.stat() for path in source.paths]
            digest = learned.source_sha256 = self.digests.of(source, row.patient_id)
            if self.copies is not None:
                learned.copy_of = self.copies.beside(row, digest)
            stored_for = self._stored_for(row, digest)
            if self.copies is not None and stored_for != row.patient_id:
                for one in {digest, *map(self.digests.sha256, source.paths)}:
                    self.copies.check(row, one)
            if stored_for is not None:
                learned.stored, learned.stored_patient_id = self.videos[row.video_id], stored_for
                return
            crop = self._crop_of_kept(row, learned) if self._kept(row, source, learned) else self._crop(row, learned)
            for frames in decoder.decode(source, crop, len(learned.kept)):
                yield ClipReady(row, frames, frames.clip_count, digest, learned.crop)
            after = [path.stat() for path in source.paths]
        except OSError as error:
            raise VideoRefused(f"the file can't be read: {error.strerror}") from None
        if [(one.st_size, one.st_mtime_ns) for one in before] != [(one.st_size, one.st_mtime_ns) for one in after]:
            raise VideoRefused("the file changed while it was read: encode it again once it is complete")

    def _kept(self, row: ManifestRow, source: Source, learned: _Learned) -> bool:
        """Learn what an earlier run has embedded of just this video, and with what crop, if it has."""
        if self.unfinished is None:
            return False
        kept = self.unfinished.clips(self.encoder_id, row.video_id, learned.source_sha256)
        if not kept or {one.clip.patient_id for one in kept} != {row.patient_id}:
            return False
        used = {one.crop.removeprefix(NO_PICTURE).strip() for one in kept}
        cut, crop = source_and_crop(used.pop())
        if used or cut != CutFrom.of(source) or not follows(crop, row.crop, self.policy):
            return False
        learned.kept, learned.crop = tuple(kept), crop
        return True

    def _crop_of_kept(self, row: ManifestRow, learned: _Learned) -> Crop | None:
        return row.crop if self.policy is None else used_crop(learned.crop).box

    def _crop(self, row: ManifestRow, learned: _Learned) -> Crop | Choose | None:
        """What part of the picture the decoder is to use; `learned.crop` is set before the first clip comes."""
        beds = self.beds
        if beds is None:
            learned.crop = str(row.crop or "")
            return row.crop

        def choose(picture: NDArray[np.uint8]) -> Crop | None:
            used = beds.choose(row, picture)
            learned.crop = str(used)
            return used.box

        return choose

    def _stored_for(self, row: ManifestRow, source_sha256: str) -> str | None:
        """The patient whom clips and video row of just this content are stored for.

        Returns:
            None where one of them is missing, as a crash between the two leaves it, or is of something else.
        """
        clips, video = self.encoded.get(row.video_id), self.videos.get(row.video_id)
        if clips is None or video is None or {clips.source_sha256, video.source_sha256} != {source_sha256}:
            return None
        cut, crop = source_and_crop(clips.crop)
        same = (cut.track, cut.segment) == (row.track, str(row.segment)) and row.stride_s in (None, cut.stride_s)
        return clips.patient_id if same and follows(crop, row.crop, self.policy) else None


@dataclass(slots=True)
class _Learned:
    """What reading one video has shown so far; see `VideoDone`."""

    source_sha256: str = ""
    crop: str = ""
    stored: Video | None = None
    stored_patient_id: str = ""
    copy_of: tuple[str, ...] = ()
    kept: tuple[EmbeddedClip, ...] = ()

    def done(self, row: ManifestRow, reason: str = "", *, damaged: bool = False) -> VideoDone:
        known = {name: getattr(self, name) for name in self.__slots__}
        return VideoDone(row, **known, reason=reason, damaged=damaged)


def job_reader(
    manifest: Manifest,
    encoder: Encoder,
    store: Store,
    *,
    same_recording: bool = False,
    unfinished: Unfinished | None = None,
    digests: FileDigests | None = None,
) -> Reader:
    """The reader of a manifest for an encoder, with what a store holds; it may not be there yet.

    Args:
        manifest: what is to be read.
        encoder: to embed with.
        store: to write to.
        same_recording: whether one recording may be stored for several patients.
        unfinished: see `Reader`.
        digests: those that earlier jobs have kept; by default every file is read.
    """
    try:
        encoded, videos = store.encoded(encoder.encoder_id), store.videos()
    except StateError:
        encoded, videos = {}, {}
    erased = store.erased({row.patient_id for row in manifest.rows})
    digests = digests or FileDigests()
    same = copies(manifest, videos.values(), digests, allowed=same_recording)
    found = Reader(manifest, encoded, videos, encoder.crop, erased=frozenset(erased), copies=same, digests=digests)
    return replace(found, last_clip=encoder.last_clip, unfinished=unfinished, encoder_id=encoder.encoder_id)


def by_file(rows: Sequence[ManifestRow]) -> list[list[ManifestRow]]:
    """Rows of one file together, by where they begin in it: one decoder reads them one after another."""
    groups: dict[str, list[ManifestRow]] = {}
    for row in rows:
        groups.setdefault(row.file_name, []).append(row)
    return [sorted(group, key=lambda row: row.start_s) for group in groups.values()]


@contextmanager
def reading(
    reader: Reader,
    rows: Sequence[ManifestRow],
    frame_shape: tuple[int, int],
    decoders: int,
    ahead: int,
    limits: DecodeLimits,
    stop: threading.Event | None = None,
) -> Iterator[Iterator[DecodingEvent]]:
    """What happens to videos, as they are decoded.

    Args:
        reader: reads one video.
        rows: the videos.
        frame_shape: (T, S) of a clip; T of 0 decodes nothing and gives clips without frames.
        decoders: videos decoded at once.
        ahead: clips that may wait for the consumer; then decoding waits.
        limits: of a decoding child.
        stop: once set, no more clips come, whatever the videos hold; set at the end too.
    """
    events: queue.Queue[DecodingEvent | BaseException | None] = queue.Queue(maxsize=ahead)
    waiting: queue.SimpleQueue[Sequence[ManifestRow]] = queue.SimpleQueue()
    groups = by_file(rows)
    for group in groups:
        waiting.put(group)
    stop = threading.Event() if stop is None else stop
    children = [Decoder(*frame_shape, limits) for _ in range(min(decoders, len(groups)))]

    def put(event: DecodingEvent | BaseException | None) -> None:
        while not stop.is_set():
            try:
                events.put(event, timeout=_LOOKS_S)
            except queue.Full:
                continue
            return

    def work(decoder: Decoder) -> None:
        try:
            while not stop.is_set():
                group = waiting.get_nowait()
                for event in chain.from_iterable(reader.read(row, decoder) for row in group):
                    put(event)
                    if stop.is_set():
                        return
        except queue.Empty:
            put(None)
        except BaseException as error:  # noqa: BLE001  a bug in this thread must end the job, not hang it
            put(error)

    threads = [threading.Thread(target=work, args=(decoder,), daemon=True) for decoder in children]

    def drain() -> Iterator[DecodingEvent]:
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
