"""The encode job on a Ray cluster: Ray Data carries clips from decoding actors to embedding actors.

This process assembles and commits, as it does for the local engine, so that there is one way into the store. Actors
get video numbers, frames and vectors; what they all need (manifest, what is stored, weights) reaches them once. The
videos must lie under the same path on every node. Ray restarts an actor that dies, and runs again what it had in
flight: here a video is whole once its end has come and as many clips as that counted.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from encoder.bed.detector import Detector
from encoder.job.digests import FileDigests
from encoder.job.events import ClipReady, EmbeddingEvent, VideoDone, clip_of, stored_crop
from encoder.job.pipeline import Engine
from encoder.job.reading import Reader, by_file
from encoder.job.report import EncodeReport
from encoder.manifest import ManifestRow
from encoder.model.embed import Embedder
from encoder.model.identity import Encoder
from encoder.picture import shows_nothing
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.worker_process import ClipFrames
from index.errors import InvalidInput, StateError
from index.records import EmbeddedClip

_MOST_BLOCKS = 4096
_CLIP = pa.schema(
    [
        *(pa.field("number", pa.int64()), pa.field("clip_index", pa.int32()), pa.field("start_s", pa.float64())),
        *(pa.field("valid_seconds", pa.float64()), pa.field("clip_count", pa.int32())),
        *(pa.field("source_sha256", pa.string()), pa.field("crop", pa.string()), pa.field("stored_of", pa.string())),
        *(pa.field("reason", pa.string()), pa.field("damaged", pa.bool_()), pa.field("model_s", pa.float64())),
        *(pa.field("blank", pa.bool_()), pa.field("copy_of", pa.list_(pa.string()))),
        pa.field("payload", pa.large_binary()),
    ]
)
"""One row a clip, and one a video that has ended: its `clip_index` is -1, its `clip_count` the clips it gave."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How to spread the job; nothing here changes an embedding.

    Attributes:
        workers: embedding actors.
        decoders: decoding actors, one video at a time each.
        batch: clips handed to a model at once.
        device: `cpu`, or `cuda` for one GPU an actor.
        cpus: of each embedding actor.
        limits: of a decoding child.
    """

    workers: int = 2
    decoders: int = 1
    batch: int = 8
    device: str = "cpu"
    cpus: float = 1
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        if min(self.workers, self.decoders, self.batch) < 1 or self.cpus <= 0:
            raise InvalidInput("expected workers, decoders and batch of at least 1, and more than 0 CPUs an actor")
        if self.device not in {"cpu", "cuda"}:
            raise InvalidInput(f"expected a device of cpu or cuda, got {self.device!r}")

    @property
    def needs(self) -> dict[str, float]:
        """What of Ray's resources all actors take together; on CPUs decoding shares the model's, as it does locally."""
        if self.device == "cuda":
            return {"CPU": self.workers * self.cpus + self.decoders, "GPU": self.workers}
        return {"CPU": self.workers * self.cpus}


def ray_engine(encoder: Encoder, options: ClusterOptions) -> Engine:
    """Decoding and embedding in actors of the cluster that RAY_ADDRESS names, or of one on this machine.

    Raises:
        InvalidInput: If Ray is not installed.
        StateError: If there is no such cluster, it is too small, or (when the job ends) it lost a video.
    """
    data, leave = _joined_cluster(options)

    @contextmanager
    def engine(
        reader: Reader, wanted: Sequence[ManifestRow], report: EncodeReport
    ) -> Iterator[Iterator[EmbeddingEvent]]:
        config = encoder.model.config
        reader = replace(reader, unfinished=None, digests=FileDigests())  # an actor may be on any host
        numbers = {row.video_id: number for number, row in enumerate(wanted)}
        files = [{"numbers": [numbers[row.video_id] for row in rows]} for rows in by_file(wanted)]
        read = data.from_items(files, override_num_blocks=min(len(files), _MOST_BLOCKS))
        decoded = read.map_batches(
            _Decode,
            batch_size=1,
            fn_constructor_args=(
                reader,
                encoder.bed_detector(),
                (config.num_frames, config.image_size),
                options.limits,
            ),
            compute=data.ActorPoolStrategy(size=options.decoders),
            num_cpus=1 if options.device == "cuda" else 0,
        )
        embedded = decoded.map_batches(
            _Embed,
            batch_size=options.batch,
            batch_format="pyarrow",
            fn_constructor_args=(encoder, options, (config.num_frames, config.image_size, config.image_size, 3)),
            compute=data.ActorPoolStrategy(size=options.workers),
            num_cpus=options.cpus,
            num_gpus=1 if options.device == "cuda" else 0,
        )
        rows = (
            row for batch in embedded.iter_batches(batch_size=None, batch_format="pyarrow") for row in batch.to_pylist()
        )
        try:
            yield _assembled(rows, reader, wanted, report, options.workers)
        finally:
            leave()  # now, so that what Ray says of it comes before the command's last word

    return engine


def _joined_cluster(options: ClusterOptions) -> tuple[Any, Callable[[], None]]:
    """Ray's module for data, and what leaves the cluster, unless this process was in it before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a hospital's jobs is sent anywhere
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its files keep the rest
    try:
        import ray
        import ray.data
    except ImportError:
        raise InvalidInput("Ray is not installed: pip install 'semiome[ray]', on every node of the cluster") from None
    leave: Callable[[], None] = lambda: None  # noqa: E731
    if not ray.is_initialized():
        leave = ray.shutdown
        _see_that_it_answers(os.environ.get("RAY_ADDRESS", ""))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's processes fork and exec: LanceDB's fears for a fork are not theirs
            try:
                ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
            except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise StateError(
                    f"the Ray cluster can't be joined ({type(error).__name__}): is it of Ray {ray.__version__}, as "
                    "this one? If it asks for a token, set RAY_AUTH_MODE=token and put the cluster's token into "
                    "~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"
                ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    there = ray.cluster_resources()
    for kind, needed in options.needs.items():
        if there.get(kind, 0) < needed:  # Ray would wait for it without end
            raise StateError(
                f"the job needs {needed:g} {kind}s and the cluster has {there.get(kind, 0):g}: use fewer workers, or "
                "more nodes"
            )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray.data, leave


def _see_that_it_answers(address: str) -> None:
    """A knock at the cluster's door: Ray itself would try for a quarter of an hour."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():  # none, or `auto` and `local`, which Ray knows
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError:
        raise StateError("no Ray cluster answers at RAY_ADDRESS: start one, or unset it to use this machine") from None


class _Decode:
    """An actor that decodes the videos of one file at a time."""

    def __init__(
        self, reader: Reader, detector: Detector | None, frame_shape: tuple[int, int], limits: DecodeLimits
    ) -> None:
        self._reader = reader.looking_for_beds(detector, limits)
        self._decoder = Decoder(*frame_shape, limits)

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        for number in (int(number) for numbers in batch["numbers"] for number in numbers):
            given = 0
            for event in self._reader.read(self._reader.manifest.rows[number], self._decoder):
                if isinstance(event, ClipReady):
                    given += 1
                    yield _clip_row(number, event)
                else:
                    yield _end_row(number, event, given)


class _Embed:
    """An actor that holds the model: frames in, vectors out, ends passed on."""

    def __init__(self, encoder: Encoder, options: ClusterOptions, shape: tuple[int, ...]) -> None:
        threads = max(round(options.cpus), 1)
        self._embedder = Embedder(encoder, options.device, threads=threads)
        self._shape = shape

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        clips = [row for row in rows if row["clip_index"] >= 0]
        if clips:
            started = time.monotonic()
            frames = [np.frombuffer(row["payload"], np.uint8).reshape(self._shape) for row in clips]
            for row, pictures, vector in zip(clips, frames, self._embedder.embed(frames), strict=True):
                row["payload"], row["blank"] = vector.tobytes(), shows_nothing(pictures)
            clips[0]["model_s"] = time.monotonic() - started
        return pa.Table.from_pylist(rows, schema=_CLIP)


def _clip_row(number: int, event: ClipReady[ClipFrames]) -> pa.Table:
    frames = event.content
    return _row(
        number=number,
        clip_index=frames.clip_index,
        start_s=frames.start_s,
        valid_seconds=frames.valid_seconds,
        clip_count=event.clip_count,
        source_sha256=event.source_sha256,
        crop=event.crop,
        payload=frames.frames.tobytes(),
    )


def _end_row(number: int, done: VideoDone, given: int) -> pa.Table:
    return _row(
        number=number,
        clip_index=-1,
        clip_count=given,
        source_sha256=done.source_sha256,
        crop=done.crop,
        stored_of=None if done.stored is None else done.stored_patient_id,
        copy_of=list(done.copy_of),
        reason=done.reason,
        damaged=done.damaged,
    )


def _row(**values: object) -> pa.Table:
    return pa.Table.from_pylist([{"model_s": 0.0, **values}], schema=_CLIP)


def _assembled(
    rows: Iterator[dict[str, Any]],
    reader: Reader,
    wanted: Sequence[ManifestRow],
    report: EncodeReport,
    workers: int,
) -> Iterator[EmbeddingEvent]:
    """Rows in any order to clips of one video after another, each whole; a row that comes twice counts once."""
    open_videos: dict[int, dict[int, dict[str, Any]]] = {}
    ends: set[int] = set()
    for row in rows:
        number = row["number"]
        if number in ends:
            continue
        report.seconds["model"] += row["model_s"] / workers
        clips = open_videos.setdefault(number, {})
        clips[row["clip_index"]] = row
        end = clips.get(-1)
        if end is None or len(clips) - 1 < end["clip_count"]:
            continue
        ends.add(number)
        del open_videos[number], clips[-1]
        report.clips_embedded += len(clips)
        for _, clip in sorted(clips.items()):
            yield _clip_ready(wanted[number], clip, len(clips))
        yield _video_done(wanted[number], end, reader)
    if len(ends) < len(wanted):
        raise StateError(f"the cluster gave back {len(ends)} of {len(wanted)} videos: run the same command again")


def _clip_ready(row: ManifestRow, values: dict[str, Any], clip_count: int) -> ClipReady[EmbeddedClip]:
    times = (values["clip_index"], values["start_s"], values["valid_seconds"])
    digest, crop = values["source_sha256"], values["crop"] or ""
    frames = ClipFrames(*times, frames=np.empty(0, np.uint8), reader="", clip_count=clip_count)
    embedded = EmbeddedClip(
        clip_of(row, digest, frames),
        np.frombuffer(values["payload"], np.float32),
        stored_crop(row, crop, blank=bool(values["blank"])),
    )
    return ClipReady(row, embedded, clip_count, digest, crop)


def _video_done(row: ManifestRow, values: dict[str, Any], reader: Reader) -> VideoDone:
    stored_of = values["stored_of"]
    return VideoDone(
        row,
        source_sha256=values["source_sha256"],
        crop=values["crop"] or "",
        stored=None if stored_of is None else reader.videos[row.video_id],
        stored_patient_id=stored_of or "",
        copy_of=tuple(values["copy_of"] or ()),
        reason=values["reason"] or "",
        damaged=bool(values["damaged"]),
    )
