"""Videos that are uploaded to be searched by: embedded as `semiome encode` would, and never kept under a name.

The bytes go to a file that is unlinked from the start, so nothing is left of it once this process and the decoding
child are gone, however they end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from encoder.manifest import Manifest, ManifestRow
from encoder.video.decoder import DecodeLimits
from index.errors import DiskFull, InvalidInput, VideoRefused
from index.files.durable import sha256_of_file
from index.files.failures import naming_failed_writes
from index.moment_records import Moment
from index.near_misses import like
from index.query import Options, VectorQuery, VideoQuery
from index.records import ID, EmbeddedClip
from index.search.moments import Course, course_of_upload, find_moments
from index.tables.schema import NO_PICTURE
from index.tables.store import Store
from index.workspace import Workspace
from protos import retrieval_pb2 as retrieval
from service.config import ServerConfig
from service.errors import DeadlinePassed
from service.gate import disclosure
from service.gate.call import Call
from service.gate.fair_queue import FairQueue
from service.messages import convert
from service.metadata import TAKEN
from service.records import UploadAnswer
from service.roles import STORES, require
from service.serving.state import ServingState
from service.serving.watcher import StateWatcher

if TYPE_CHECKING:
    from encoder.model.embed import Embedder

MAX_CHUNK_BYTES = 2**20
_FOLDER = "uploads"
_CLIP_S = 10.0
"""Longest time to decode each ten seconds of an upload, on average."""
_AT_ONCE = 4
_LEAST_FREE_BYTES = 64 * 2**20
"""What uploads leave of a disk: an audit log that can't be written stops all answers."""
_IDLE_S = 30.0
_STARTS_S, _LEAST_BYTES_PER_S, _LONGEST_S = 30.0, 64 * 1024, 1800.0
"""An upload may take the first and as long as its bytes take at the second, slower than any network of a hospital; the
largest must come faster."""


class Uploads:
    """Embeds uploads of one worker, one at a time."""

    def __init__(self, workspace: Workspace, watcher: StateWatcher, config: ServerConfig) -> None:
        self._workspace = workspace
        self._watcher = watcher
        self._limits = DecodeLimits(
            clip_s=_CLIP_S,
            look_s=0.0,  # an upload is short: what took its decoder over gains no time by saying that it looks
            max_seconds=config.max_upload_seconds,
            least_sandbox=config.least_sandbox,
        )
        self._config = config
        self._turns = FairQueue(_AT_ONCE)
        self._embedding = asyncio.Lock()
        # One for all: each thread that the model runs in keeps memory of its own for it.
        self._thread = ThreadPoolExecutor(1, "embedding")
        self._embedder: Embedder | None = None

    async def answer(self, requests: AsyncIterator[retrieval.SearchByVideoRequest], call: Call) -> UploadAnswer:
        """Receive a video, embed it and search by it.

        Raises:
            InvalidInput: If what was sent is not a header and then chunks, or what it says is wrong.
            VideoRefused: If the video can't be trusted.
            TooMuch: If others are being embedded.
            DeadlinePassed: If nothing came for too long.
        """
        header = await self._header(requests, call)
        if header.patient_id:
            call.reads(self._watcher.state.provenance, [header.patient_id])
        k, options = convert.options_from_proto(header.options)
        if options.aligned:
            raise InvalidInput("an upload can't be aligned: store it first", field="header.options.aligned")
        disclosure.check_hits(call.caller, k)
        if header.moments:
            disclosure.check_hits(call.caller, header.moments)
        call.queries(1)
        # Without sign-in all have one name, and take their turns as they come.
        async with self._turns.turn(call.caller.identity if self._config.signs_in else call.request_id):
            call.check_deadline()
            with _unlinked_file(self._workspace) as file:
                try:
                    async with asyncio.timeout(min(_STARTS_S + header.size_bytes / _LEAST_BYTES_PER_S, _LONGEST_S)):
                        await self._receive(requests, header.size_bytes, file, call)
                except TimeoutError:
                    raise DeadlinePassed("the upload came too slowly, and others wait for its place") from None
                async with self._embedding:
                    call.check_deadline()
                    return await self._embedded(file, header, k, options, call)

    async def _header(
        self, requests: AsyncIterator[retrieval.SearchByVideoRequest], call: Call
    ) -> retrieval.UploadHeader:
        first = await _next(requests)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidInput("expected a header before the video's bytes", field="header")
        header = first.header
        if not 1 <= header.size_bytes <= self._config.max_upload_bytes:
            raise InvalidInput(
                f"expected a video of 1 to {self._config.max_upload_bytes} bytes, got {header.size_bytes}",
                field="header.size_bytes",
            )
        if header.patient_id and not ID.fullmatch(header.patient_id):
            raise InvalidInput("expected a patient id of 1 to 64 of A-Z a-z 0-9 . _ -", field="header.patient_id")
        self._watcher.state.snapshot.classes.check([header.label], "header.label")
        if header.store_as_video_id:
            require(call.caller, STORES, "to store an upload")
            if not ID.fullmatch(header.store_as_video_id):
                raise InvalidInput(
                    "expected a video id of 1 to 64 of A-Z a-z 0-9 . _ -", field="header.store_as_video_id"
                )
            if not header.patient_id:
                raise InvalidInput(
                    "expected the patient's pseudonym: without it the video can't be stored", field="header.patient_id"
                )
        elif header.label:
            raise InvalidInput("expected a label only with a video that is stored", field="header.label")
        return header

    async def _receive(
        self, requests: AsyncIterator[retrieval.SearchByVideoRequest], size: int, file: IO[bytes], call: Call
    ) -> None:
        if shutil.disk_usage(self._workspace.root).free < size + max(size, _LEAST_FREE_BYTES):
            raise DiskFull
        with naming_failed_writes():  # its room is taken now: others may send at the same time
            await call.work(os.posix_fallocate, file.fileno(), 0, size)
        await call.context.send_initial_metadata(
            ((TAKEN, "1"),)
        )  # callers who wait for it send nothing that is refused
        received = 0
        with naming_failed_writes():
            while (request := await _next(requests)) is not None:
                chunk = request.chunk
                if request.WhichOneof("part") != "chunk" or not 1 <= len(chunk) <= MAX_CHUNK_BYTES:
                    raise InvalidInput(f"expected chunks of 1 to {MAX_CHUNK_BYTES} bytes", field="chunk")
                received += len(chunk)
                if received > size:
                    raise InvalidInput(f"expected {size} bytes, got more", field="header.size_bytes")
                await call.work(file.write, chunk)
            await call.work(file.flush)
        if received < size:
            raise InvalidInput(f"expected {size} bytes, got {received}: the upload was cut", field="header.size_bytes")

    async def _embedded(
        self, file: IO[bytes], header: retrieval.UploadHeader, k: int, options: Options, call: Call
    ) -> UploadAnswer:
        """In a thread, which looks now and then whether the caller still waits."""
        given_up = threading.Event()
        work = self._store_and_search if header.store_as_video_id else self._search
        working = asyncio.ensure_future(call.work_in(self._thread, work, file, header, k, options, given_up))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait({working})  # it reads the file, and the next one must not begin meanwhile
            raise

    def _search(
        self, file: IO[bytes], header: retrieval.UploadHeader, k: int, options: Options, given_up: threading.Event
    ) -> UploadAnswer:
        state = self._watcher.state
        embedder = self._loaded(state)
        manifest = _manifest(file, header, "upload")
        known = _known_as(manifest, state)
        if known and header.patient_id not in ("", state.snapshot.videos[known].patient_id):
            raise InvalidInput(
                "just this file is stored, for another patient than the one named: check the id, or name none",
                field="header.patient_id",
            )
        patient_id = header.patient_id or (state.snapshot.videos[known].patient_id if known else "")
        made = list(_clips(manifest, embedder, self._limits, given_up))
        clips = [clip for clip in made if not clip.crop.startswith(NO_PICTURE)]
        if not clips:
            raise VideoRefused("no picture: it is black, of one colour, or one still frame")
        query = VectorQuery(
            np.stack([clip.vector for clip in clips]),
            state.snapshot.encoder_id,
            patient_id,
            tuple(clip.clip.clip_id for clip in clips),
        )
        options = state.with_signs(options)
        answer = state.search(query, k, options)
        shown = tuple(one.clip for one in clips)
        judges = header.classify and state.can_judge
        judged = state.judge(shown, query.vector, patient_id) if judges else None
        moments: tuple[Moment, ...] = ()
        if header.moments:
            course = course_of_upload(state.snapshot, shown, query.vector, patient_id, known)
            moments = _moments(state, course, header, options)
        return UploadAnswer(
            *(answer.provenance, shown, answer.neighbours),
            stored=False,
            judged=judged,
            patient_known=bool(patient_id),
            known_as=known,
            clips_without_picture=len(made) - len(clips),
            moments=moments,
        )

    def _store_and_search(
        self, file: IO[bytes], header: retrieval.UploadHeader, k: int, options: Options, given_up: threading.Event
    ) -> UploadAnswer:
        """What is stored is stored whole, whether or not the caller still waits."""
        from encoder.job.pipeline import EncodeOptions, encode

        if given_up.is_set():
            raise DeadlinePassed("the call has ended before its answer")
        videos = self._watcher.state.snapshot.videos
        if header.store_as_video_id in videos:
            raise InvalidInput("a video of this id is stored already", field="header.store_as_video_id")
        patients = {video.patient_id for video in videos.values()}
        for name, given, known in (
            ("patient_id", header.patient_id, patients),
            ("store_as_video_id", header.store_as_video_id, set(videos)),
        ):
            if given not in known and like(given, known):
                raise InvalidInput(
                    "a stored id looks like a misspelling of this one: correct it, or store the video with "
                    "`semiome encode --distinct-ids`",
                    field=f"header.{name}",
                )
        store = Store(self._workspace)
        if store.alike_to_erased({header.patient_id}) - store.erased({header.patient_id}):
            raise InvalidInput(
                "this looks like a misspelling of the id of a patient who was erased: check it; if it is another "
                "patient, store the video with `semiome encode --distinct-ids`",
                field="header.patient_id",
            )
        embedder = self._loaded(self._watcher.state)
        manifest = _manifest(file, header, header.store_as_video_id)
        report = encode(manifest, embedder, Store(self._workspace), EncodeOptions(limits=self._limits))
        if report.refused:
            raise VideoRefused(report.refused[0].reason)
        self._watcher.refresh()
        state = self._watcher.state
        query = VideoQuery(header.store_as_video_id)
        options = state.with_signs(options)
        answer = state.search(query, k, options)
        clips, vectors = state.snapshot.clips_of(query)
        judged = state.judge(clips, vectors) if header.classify and state.can_judge else None
        return UploadAnswer(
            *(answer.provenance, clips, answer.neighbours),
            stored=True,
            judged=judged,
            patient_known=True,
            known_as=header.store_as_video_id,
            clips_without_picture=report.clips_blank,
            moments=_moments(state, query, header, options) if header.moments else (),
        )

    def _loaded(self, state: ServingState) -> Embedder:
        """The model of the encoder that serves; loaded, with all that it takes, when it is first needed."""
        from encoder.model.embed import Embedder
        from encoder.model.folder import current_encoder

        wanted = state.snapshot.encoder_id
        if self._embedder is None or self._embedder.encoder.encoder_id != wanted:
            self._embedder = Embedder(current_encoder(self._workspace.encoders, wanted))
        return self._embedder


def remove_leftovers(workspace: Workspace) -> None:
    """Uploads that servers of version 0.1 left when they were killed; since then none has a name."""
    shutil.rmtree(workspace.root / _FOLDER, ignore_errors=True)


def _moments(
    state: ServingState, query: VideoQuery | Course, header: retrieval.UploadHeader, options: Options
) -> tuple[Moment, ...]:
    """Those that the header asks for."""
    return find_moments(
        *(state.snapshot, query, header.moments, options.where),
        include_own_patient=options.include_own_patient,
        max_per_hour=header.max_per_hour if header.HasField("max_per_hour") else None,
    )


def _known_as(manifest: Manifest, state: ServingState) -> str:
    """The stored video that is just this file; empty where there is none."""
    digest = sha256_of_file(manifest.path_of(manifest.rows[0]))
    names = sorted(name for name, video in state.snapshot.videos.items() if video.source_sha256 == digest)
    return names[0] if names else ""


def _clips(
    manifest: Manifest, embedder: Embedder, limits: DecodeLimits, given_up: threading.Event
) -> Iterator[EmbeddedClip]:
    """Embed a video as the encode job does, and keep nothing.

    Raises:
        VideoRefused: If it can't be trusted.
    """
    from encoder.job.events import ClipReady
    from encoder.job.pipeline import EncodeOptions, local_engine
    from encoder.job.reading import Reader
    from encoder.job.report import EncodeReport

    reader = Reader(manifest, {}, {}, embedder.encoder.crop)
    with local_engine(embedder, EncodeOptions(limits=limits), given_up)(
        reader, manifest.rows, EncodeReport()
    ) as events:
        for event in events:
            if isinstance(event, ClipReady):
                yield event.content
            elif event.reason:
                raise VideoRefused(event.reason, damaged=event.damaged)
        if given_up.is_set():
            raise DeadlinePassed("the call has ended before its answer")


def _manifest(file: IO[bytes], header: retrieval.UploadHeader, video_id: str) -> Manifest:
    """The upload as a manifest of one row."""
    row = ManifestRow(str(file.fileno()), header.patient_id or "unknown", video_id, header.label)
    return Manifest(Path(f"/proc/{os.getpid()}/fd"), (row,), opened=True)


@naming_failed_writes()
def _unlinked_file(workspace: Workspace) -> IO[bytes]:
    """A file on the workspace's disk that has no name."""
    return tempfile.TemporaryFile(dir=workspace.root)


async def _next(requests: AsyncIterator[retrieval.SearchByVideoRequest]) -> retrieval.SearchByVideoRequest | None:
    try:
        return await asyncio.wait_for(anext(requests, None), _IDLE_S)
    except TimeoutError:
        raise DeadlinePassed(f"nothing came for {_IDLE_S:.0f} s") from None
