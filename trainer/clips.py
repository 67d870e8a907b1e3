"""The clips a training run looks at, decoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.decoder import ClipFrames, Decoder
from encoder.manifest import Manifest, ManifestRow


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """Frames of many clips.

    Attributes:
        frames: (N, T, S, S, 3) uint8 RGB.
        rows: the manifest row of each.
    """

    frames: NDArray[np.uint8]
    rows: tuple[ManifestRow, ...]

    @property
    def video_of(self) -> list[int]:
        """Number of each clip's video."""
        return _numbers([row.video_id for row in self.rows])

    @property
    def patient_of(self) -> list[int]:
        """Number of each clip's patient."""
        return _numbers([row.patient_id for row in self.rows])

    def of(self, wanted: Callable[[ManifestRow], bool]) -> TrainingClips:
        """The clips whose row is wanted."""
        kept = [number for number, row in enumerate(self.rows) if wanted(row)]
        return TrainingClips(self.frames[kept], tuple(self.rows[number] for number in kept))


def decode_all(
    manifest: Manifest,
    num_frames: int,
    size: int,
    decoders: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainingClips:
    """Decode every clip of a manifest, `decoders` videos at a time.

    Raises:
        VideoRefused: a video can't be read; none is left out in silence.
    """
    shares = [manifest.rows[start::decoders] for start in range(decoders)]
    decoded: dict[str, list[ClipFrames]] = {}
    progress(0, len(manifest.rows))

    def work(share: Sequence[ManifestRow]) -> None:
        with Decoder(num_frames, size) as decoder:
            for row in share:
                decoded[row.video_id] = list(decoder.decode(manifest.path_of(row), row.crop))
                progress(len(decoded), len(manifest.rows))

    with ThreadPoolExecutor(decoders) as pool:
        list(pool.map(work, shares))
    clips = [(row, clip) for row in manifest.rows for clip in decoded[row.video_id]]
    return TrainingClips(np.stack([clip.frames for _, clip in clips]), tuple(row for row, _ in clips))


def _numbers(names: Sequence[str]) -> list[int]:
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [order[name] for name in names]
