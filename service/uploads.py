"""Videos that are uploaded to be searched by: kept in a private file, embedded as `semiome encode` would, deleted."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from encoder.manifest import Manifest, ManifestRow
from index.errors import DiskFull, InvalidInput, VideoRefused
from index.files import naming_a_full_disk
from index.query import Options, VectorQuery, VideoQuery
from index.records import ID, LABELS, EmbeddedClip
from index.store import Store
from index.workspace import Workspace
from protos import retrieval_pb2 as retrieval
from service import convert, disclosure
from service.answers import UploadAnswer
from service.config import ServerConfig
from service.errors import DeadlinePassed
from service.guard import Call
from service.knowledge import Knowledge, Source
from service.limits import TooMuch
from service.roles import STORES, require

if TYPE_CHECKING:
    from encoder.embed import Embedder

MAX_CHUNK_BYTES = 2**20
_FOLDER = "uploads"
_FILE = "video"
_AT_ONCE = 2
_IDLE_S = 30.0
_RETRY_S = 5.0


class Uploads:
    """Embeds uploads of one worker, one at a time."""

    def __init__(self, workspace: Workspace, source: Source, config: ServerConfig) -> None:
        self._workspace = workspace
        self._source = source
        self._config = config
        self._receiving = 0
        self._embedding = asyncio.Lock()
        self._embedder: Embedder | None = None

    async def answer(self, requests: AsyncIterator[retrieval.SearchByVideoRequest], call: Call) -> UploadAnswer:
        """Receive a video, embed it and search by it.

        Raises:
            InvalidInput: what was sent is not a header and then chunks, or what it says is wrong.
            VideoRefused: the video can't be trusted.
            TooMuch: others are being embedded.
            DeadlinePassed: nothing came for too long.
        """
        header = await self._header(requests, call)
        if header.patient_id:
            call.reads(self._source.knowledge.provenance, [header.patient_id])
        k, options = convert.options_from_proto(header.options)
        if options.aligned:
            raise InvalidInput("an upload can't be aligned: store it first", field="header.options.aligned")
        disclosure.check_hits(call.caller, k)
        call.queries(1)
        if self._receiving >= _AT_ONCE:
            raise TooMuch("other uploads are being received: try again in some seconds", _RETRY_S, "uploads at once")
        self._receiving += 1
        try:
            with _private_folder(self._workspace) as folder:
                await self._receive(requests, header.size_bytes, folder / _FILE)
                async with self._embedding:
                    call.check_deadline()
                    return await self._embedded(folder, header, k, options)
        finally:
            self._receiving -= 1

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
        if header.label and header.label not in LABELS:
            raise InvalidInput(f"expected a label of {', '.join(LABELS)} or none", field="header.label")
        if header.store_as_video_id:
            require(call.caller, STORES, "to store an upload")
            if not ID.fullmatch(header.store_as_video_id):
                raise InvalidInput(
                    "expected a video id of 1 to 64 of A-Z a-z 0-9 . _ -", field="header.store_as_video_id"
                )
            if not header.patient_id:
                raise InvalidInput("expected whose the video is, to store it", field="header.patient_id")
        elif header.label:
            raise InvalidInput("expected a label only with a video that is stored", field="header.label")
        return header

    async def _receive(self, requests: AsyncIterator[retrieval.SearchByVideoRequest], size: int, path: Path) -> None:
        if shutil.disk_usage(path.parent).free < 2 * size:
            raise DiskFull
        received = 0
        with naming_a_full_disk(), path.open("xb") as stream:
            while (request := await _next(requests)) is not None:
                chunk = request.chunk
                if request.WhichOneof("part") != "chunk" or not 1 <= len(chunk) <= MAX_CHUNK_BYTES:
                    raise InvalidInput(f"expected chunks of 1 to {MAX_CHUNK_BYTES} bytes", field="chunk")
                received += len(chunk)
                if received > size:
                    raise InvalidInput(f"expected {size} bytes, got more", field="header.size_bytes")
                await asyncio.to_thread(stream.write, chunk)
        if received < size:
            raise InvalidInput(f"expected {size} bytes, got {received}: the upload was cut", field="header.size_bytes")

    async def _embedded(self, folder: Path, header: retrieval.UploadHeader, k: int, options: Options) -> UploadAnswer:
        """In a thread, which looks now and then whether somebody still waits."""
        given_up = threading.Event()
        work = self._store_and_search if header.store_as_video_id else self._search
        working = asyncio.ensure_future(asyncio.to_thread(work, folder, header, k, options, given_up))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait({working})  # it reads the folder, and the next one must not begin meanwhile
            raise

    def _search(
        self, folder: Path, header: retrieval.UploadHeader, k: int, options: Options, given_up: threading.Event
    ) -> UploadAnswer:
        knowledge = self._source.knowledge
        embedder = self._loaded(knowledge)
        clips = list(_clips(folder, _row(header, "upload"), embedder, given_up))
        query = VectorQuery(
            np.stack([clip.vector for clip in clips]),
            knowledge.snapshot.encoder_id,
            header.patient_id,
            tuple(clip.clip.clip_id for clip in clips),
        )
        answer = knowledge.search(query, k, options)
        shown = tuple(one.clip for one in clips)
        judged = knowledge.judge(shown, query.vector) if header.classify and knowledge.can_judge else None
        return UploadAnswer(answer.provenance, shown, answer.neighbours, stored=False, judged=judged)

    def _store_and_search(
        self, folder: Path, header: retrieval.UploadHeader, k: int, options: Options, given_up: threading.Event
    ) -> UploadAnswer:
        """What is stored is stored whole, whether or not somebody still waits."""
        from encoder.pipeline import EncodeOptions, encode

        if given_up.is_set():
            raise DeadlinePassed("nobody waits for the answer any more")
        if header.store_as_video_id in self._source.knowledge.snapshot.videos:
            raise InvalidInput("a video of this id is stored already", field="header.store_as_video_id")
        embedder = self._loaded(self._source.knowledge)
        manifest = Manifest(folder, (_row(header, header.store_as_video_id),))
        report = encode(manifest, embedder, Store(self._workspace), EncodeOptions())
        if report.refused:
            raise VideoRefused(report.refused[0].reason)
        self._source.refresh()
        knowledge = self._source.knowledge
        query = VideoQuery(header.store_as_video_id)
        answer = knowledge.search(query, k, options)
        clips, vectors = knowledge.snapshot.clips_of(query)
        judged = knowledge.judge(clips, vectors) if header.classify and knowledge.can_judge else None
        return UploadAnswer(answer.provenance, clips, answer.neighbours, stored=True, judged=judged)

    def _loaded(self, knowledge: Knowledge) -> Embedder:
        """The model of the encoder that serves; loaded, with all that it takes, when it is first needed."""
        from encoder.embed import Embedder
        from encoder.weights import current_encoder

        wanted = knowledge.snapshot.encoder_id
        if self._embedder is None or self._embedder.encoder.encoder_id != wanted:
            self._embedder = Embedder(current_encoder(self._workspace.encoders, wanted), precision="auto")
        return self._embedder


def remove_leftovers(workspace: Workspace) -> None:
    """Uploads of servers that were killed; those that another server is receiving are locked."""
    place = workspace.root / _FOLDER
    for folder in place.iterdir() if place.is_dir() else ():
        with contextlib.suppress(OSError), _locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _clips(folder: Path, row: ManifestRow, embedder: Embedder, given_up: threading.Event) -> Iterator[EmbeddedClip]:
    """Embed a video as the encode job does, and keep nothing.

    Raises:
        VideoRefused: it can't be trusted.
    """
    from encoder.pipeline import EncodeOptions, EncodeReport, local_engine
    from encoder.reading import Job, Reader

    job = Job(row)
    reader = Reader(Manifest(folder, (row,)), {}, {}, embedder.encoder.crop)
    with local_engine(embedder, EncodeOptions())(reader, [job], EncodeReport()) as events:
        for _, embedded, _ in events:
            if given_up.is_set():
                raise DeadlinePassed("nobody waits for the answer any more")
            if embedded is not None:
                yield embedded
    if job.reason:
        raise VideoRefused(job.reason, damaged=job.damaged)


def _row(header: retrieval.UploadHeader, video_id: str) -> ManifestRow:
    return ManifestRow(_FILE, header.patient_id or "unknown", video_id, header.label)


@contextmanager
def _private_folder(workspace: Workspace) -> Iterator[Path]:
    place = workspace.root / _FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=place)).resolve()
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Held as long as somebody needs a folder.

    Raises:
        BlockingIOError: somebody does.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


async def _next(requests: AsyncIterator[retrieval.SearchByVideoRequest]) -> retrieval.SearchByVideoRequest | None:
    try:
        return await asyncio.wait_for(anext(requests, None), _IDLE_S)
    except TimeoutError:
        raise DeadlinePassed(f"nothing came for {_IDLE_S:.0f} s") from None
