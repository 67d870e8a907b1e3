"""A look into each video of a manifest, at its timestamps alone: how many clips it would give, or why it is refused."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from encoder.manifest import Manifest, ManifestRow
from encoder.video.decoder import Decoder
from index.errors import VideoRefused


@dataclass(frozen=True, slots=True)
class Looked:
    """What the timestamps of a video say.

    Attributes:
        row: the manifest's.
        clips: number of clips it would give.
        seconds: of picture in them.
        reason: why it would be refused, or empty.
    """

    row: ManifestRow
    clips: int = 0
    seconds: float = 0.0
    reason: str = ""


def look_into(
    manifest: Manifest, decoders: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Looked]:
    """Look through all videos without decoding a picture, in the order of the manifest.

    Args:
        manifest: the videos.
        decoders: videos looked at at once.
        progress: told (videos done, in all).

    Raises:
        StateError: If videos can't be decoded here at all.
    """
    every = [Decoder(0, 0) for _ in range(min(decoders, len(manifest.rows)))]
    idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
    for decoder in every:
        idle.put(decoder)

    def look(row: ManifestRow) -> Looked:
        decoder = idle.get()
        try:
            lengths = [clip.valid_seconds for clip in decoder.decode(manifest.path_of(row), None, row.track)]
            return Looked(row, len(lengths), sum(lengths))
        except VideoRefused as refused:
            return Looked(row, reason=str(refused))
        except OSError as error:
            return Looked(row, reason=f"the file can't be read: {error.strerror}")
        finally:
            idle.put(decoder)

    pool = ThreadPoolExecutor(len(every))
    results = []
    try:
        for looked in pool.map(look, manifest.rows):
            results.append(looked)
            progress(len(results), len(manifest.rows))
    finally:
        for decoder in every:  # what is under way ends soon where this ends early, Ctrl-C above all
            decoder.interrupt()
        pool.shutdown(cancel_futures=True)
        for decoder in every:
            decoder.close()
    return results
