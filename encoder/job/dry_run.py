"""What an encode job would do and how long it would take, from the videos' timestamps and a short measured piece."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from encoder.job.events import ClipReady, VideoDone
from encoder.job.pipeline import EncodeOptions, Progress, local_engine
from encoder.job.reading import Reader, job_reader, reading
from encoder.job.report import EncodeReport, Refusal
from encoder.manifest import Manifest, ManifestRow
from encoder.model.embed import Embedder
from index.tables.store import Store

_PROBED_S, _LONGEST_S, _BATCHES = 5.0, 30.0, 5
_ROW_BYTES = 300
"""Bytes of a stored clip beside its vector: ids, digests and times, as measured with videos of a hundred clips."""


@dataclass(slots=True)
class DryRun:
    """What would happen.

    Attributes:
        videos: number of videos to encode.
        clips: number of their clips.
        hours: of video in them.
        clips_stored: skipped, since they are stored.
        store_bytes: that the new clips would take in the store.
        clips_per_s: measured over some of the clips, decoding and model together: the median of batches; 0 when there
            is nothing to encode.
        seconds: the job would take at that rate.
        seconds_between: at the rates that nine in ten batches stayed above, and one in ten reached: (least, most).
        refused: videos that can't be read, and why. Damage inside a video is found only by decoding it, and a video
            without a bed only by looking for one (`encoder.job.bed_survey`).
    """

    videos: int = 0
    clips: int = 0
    hours: float = 0.0
    clips_stored: int = 0
    store_bytes: int = 0
    clips_per_s: float = 0.0
    seconds: float = 0.0
    seconds_between: tuple[float, float] = (0.0, 0.0)
    refused: list[Refusal] = field(default_factory=list)


def dry_run(
    manifest: Manifest,
    embedder: Embedder,
    store: Store,
    options: EncodeOptions,
    progress: Progress = lambda done, total, now: None,
) -> DryRun:
    """Look through all videos without decoding them, encode a few clips, and write nothing.

    Args:
        manifest: what would be encoded.
        embedder: computes embeddings.
        store: what is stored already.
        options: how to run it.
        progress: told (videos done, videos in all, "").
    """
    forecast = DryRun()
    encoder = embedder.encoder
    reader = job_reader(manifest, encoder, store)
    wanted: list[ManifestRow] = []
    clips = {row.video_id: 0 for row in manifest.rows}
    seconds = dict.fromkeys(clips, 0.0)
    with reading(
        reader, manifest.rows, (0, encoder.model.config.image_size), options.decoders, 64, options.limits
    ) as events:
        done = 0
        for event in events:
            if isinstance(event, ClipReady):
                clips[event.row.video_id] += 1
                seconds[event.row.video_id] = event.content.start_s + event.content.valid_seconds
                continue
            done += 1
            progress(done, len(manifest.rows), "")
            if event.stored is not None:
                forecast.clips_stored += event.stored.clip_count
            elif event.reason and not (event.damaged and options.salvage):
                forecast.refused.append(Refusal(event.row.video_id, event.row.file_name, event.reason))
            else:
                wanted.append(event.row)
    forecast.videos = len(wanted)
    forecast.clips = sum(clips[row.video_id] for row in wanted)
    forecast.hours = sum(seconds[row.video_id] for row in wanted) / 3600
    forecast.store_bytes = forecast.clips * (4 * encoder.model.embedding_dim + _ROW_BYTES)
    if forecast.clips:
        took_s = _measured(reader, wanted, embedder, options)
        if took_s:
            fast, usual, slow = np.quantile(took_s, (0.1, 0.5, 0.9)).tolist()
            forecast.clips_per_s = 1 / usual
            forecast.seconds, forecast.seconds_between = (
                forecast.clips * usual,
                (forecast.clips * fast, forecast.clips * slow),
            )
    return forecast


def _measured(reader: Reader, wanted: Sequence[ManifestRow], embedder: Embedder, options: EncodeOptions) -> list[float]:
    """Seconds a clip through decoding and model, of each batch from the second on where there is one.

    Of several batches one that met another job, or a video that decodes slowly, is one of several figures.
    """
    some = wanted[:: max(len(wanted) // 16, 1)]
    started = since = time.monotonic()
    took_s: list[float] = []
    done = of_batch = 0
    with local_engine(embedder, options)(reader, some, EncodeReport()) as events:
        for event in events:
            if isinstance(event, VideoDone):
                continue
            done, of_batch = done + 1, of_batch + 1
            if of_batch < options.batch:
                continue
            now = time.monotonic()
            if done > options.batch:  # before, child processes start and the model warms up
                took_s.append((now - since) / of_batch)
            since, of_batch = now, 0
            if now - started > (_PROBED_S if len(took_s) >= _BATCHES else _LONGEST_S):
                break
    if not took_s and done:
        return [(time.monotonic() - started) / done]
    return took_s
