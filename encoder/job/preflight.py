"""A look into each video of a manifest, at its timestamps alone: how many clips it would give, or why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from encoder.manifest import Manifest, ManifestRow
from encoder.video.decoder import DecoderPool
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
    count = min(decoders, len(manifest.rows))
    pool = DecoderPool(count, 0, 0)

    def look(row: ManifestRow) -> Looked:
        try:
            source = manifest.source(row)
            with pool.decoder_for(source.path) as decoder:
                clips = list(decoder.decode(source))
            return Looked(row, len(clips), clips[-1].start_s + clips[-1].valid_seconds)
        except VideoRefused as refused:
            return Looked(row, reason=str(refused))
        except OSError as error:
            return Looked(row, reason=f"the file can't be read: {error.strerror}")

    results = []
    with pool, ThreadPoolExecutor(count) as threads:
        try:
            for looked in threads.map(look, manifest.rows):
                results.append(looked)
                progress(len(results), len(manifest.rows))
        finally:
            pool.interrupt()  # what is under way ends soon where this ends early, Ctrl-C above all
            threads.shutdown(cancel_futures=True)
    return results
