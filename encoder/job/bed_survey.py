"""Looking for the beds of a whole manifest before anything is encoded, for a person to check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.bed.contact_sheet import PER_SHEET, Tile, thumbnail, write_sheet
from encoder.bed.crop import used_crop
from encoder.job.events import VideoDone
from encoder.job.reading import job_reader, reading
from encoder.manifest import Manifest, ManifestRow, write_manifest
from encoder.model.identity import Encoder
from encoder.picture import Crop
from encoder.video.decoder import DecodeLimits
from index.errors import InvalidInput
from index.tables.store import Store

BOXES = "beds.csv"


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What would be used of one video.

    Attributes:
        row: the manifest's.
        kind: `bed`, `camera`, `manifest`, `whole` or `refused`.
        crop: the box; None for the whole picture or nothing.
        reason: it is refused for, or empty.
        jpeg: its first picture, small; empty where it can't be read.
        scale: that picture's size over the first one's.
    """

    row: ManifestRow
    kind: str
    crop: Crop | None
    reason: str
    jpeg: bytes
    scale: float


def survey(
    manifest: Manifest,
    encoder: Encoder,
    store: Store,
    decoders: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> tuple[Surveyed, ...]:
    """Look at the first picture of every video, in the manifest's order; nothing is stored.

    Raises:
        InvalidInput: If the encoder has no crop policy.
    """
    if encoder.crop is None:
        raise InvalidInput("this encoder takes whole pictures: give it a detector with `semiome encoder crop` first")
    pictures: dict[str, tuple[bytes, float]] = {}

    def keep(row: ManifestRow, picture: NDArray[np.uint8]) -> None:
        pictures[row.video_id] = thumbnail(picture)

    limits = DecodeLimits()
    known = job_reader(manifest, encoder, store).looking_for_beds(encoder.bed_detector(device), limits, keep)
    reader = replace(known, encoded={}, videos={})  # what is stored tells of cameras, and is looked at again
    surveyed: dict[str, Surveyed] = {}
    progress(0, len(manifest.rows))
    with reading(reader, manifest.rows, (0, encoder.model.config.image_size), decoders, 64, limits) as events:
        for event in events:
            if isinstance(event, VideoDone):
                surveyed[event.row.video_id] = _surveyed(event, pictures.pop(event.row.video_id, None))
                progress(len(surveyed), len(manifest.rows))
    return tuple(surveyed[row.video_id] for row in manifest.rows)


def _surveyed(done: VideoDone, picture: tuple[bytes, float] | None) -> Surveyed:
    used = used_crop(done.crop)
    kind = "refused" if done.reason else used.origin
    return Surveyed(done.row, kind, done.row.crop or used.box, done.reason, *(picture or (b"", 0.0)))


def write_survey(surveyed: tuple[Surveyed, ...], folder: Path) -> tuple[Path, ...]:
    """Write the manifest with the boxes found, and the contact sheets, camera by camera.

    Returns:
        The manifest, then the sheets.
    """
    boxes = folder / BOXES
    write_manifest(boxes, [(replace(one.row, crop=one.crop), one.reason or one.kind) for one in surveyed])
    ordered = sorted(surveyed, key=lambda one: (one.row.camera, one.row.recorded_at))
    sheets = []
    for start in range(0, len(ordered), PER_SHEET):
        some = ordered[start : start + PER_SHEET]
        tiles = [Tile(one.row.video_id, _note(one), one.kind, one.jpeg, one.scale, one.crop) for one in some]
        path = folder / f"beds-{start // PER_SHEET + 1:03d}.png"
        write_sheet(path, tiles, f"Videos {start + 1} to {start + len(some)} of {len(ordered)}")
        sheets.append(path)
    return (boxes, *sheets)


def _note(one: Surveyed) -> str:
    what = one.reason if one.kind == "refused" else f"{one.kind} {one.crop or ''}".strip()
    return f"{one.row.camera}: {what}" if one.row.camera else what
