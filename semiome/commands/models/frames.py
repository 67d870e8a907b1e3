"""Frames to train on: of a manifest, from its frame cache where there is one, cropped to beds where that is wanted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from semiome.console import Screen

if TYPE_CHECKING:
    from encoder.manifest import Manifest
    from encoder.model.identity import Encoder
    from encoder.picture import Crop
    from index.workspace import Workspace
    from trainer.clips import TrainingClips
    from trainer.study.config import BedConfig

_BEDS = "beds.json"


def clips_of(
    rows: Manifest,
    cache: Path | None,
    num_frames: int,
    size: int,
    *,
    decoders: int,
    screen: Screen,
    writes: bool = True,
    shared: bool = False,
    clips: int | None = None,
) -> TrainingClips:
    """The clips of a manifest, from its frame cache where there is one.

    Args:
        rows: the manifest.
        cache: folder of the frame cache; None to keep frames in memory.
        num_frames: T.
        size: S.
        decoders: videos decoded at once.
        screen: for progress, and for what is left out.
        writes: whether this process makes the cache if there is none; others wait for it.
        shared: whether other processes read it too.
        clips: how many there are, where that is known.
    """
    from index.errors import InvalidInput
    from index.files.locks import exclusive_lock
    from trainer.decoding import as_described, decode_all
    from trainer.frame_cache import build_cache, check_room, clip_counts, frame_bytes, matches, read_cache

    if cache is None:
        if shared:
            raise InvalidInput("several processes share one frame cache: name its folder as frame_cache")
        with screen.progress("Decoding") as progress:
            found = decode_all(rows, num_frames, size, decoders, progress)
    else:
        if writes and not (cache / "clips.json").exists():
            with exclusive_lock(cache / "lock", "the frame cache"):
                if clips is None:
                    with screen.progress("Counting clips") as progress:
                        clips = sum(clip_counts(rows, decoders, progress))
                size_bytes = clips * frame_bytes(num_frames, size)
                screen.note(f"the frame cache will take {size_bytes / 2**30:.2f} GiB")
                check_room(cache, size_bytes)
                with screen.progress("Decoding") as progress:
                    build_cache(rows, cache, num_frames, size, decoders, progress)
        elif not writes:
            _wait_for(cache / "clips.json")
        found = read_cache(cache)
        matches(found, rows, num_frames, size)
    for video in found.left_out if writes else ():
        screen.warn(f"{video.video_id} is left out: {video.reason}")
    return as_described(found, rows)


def with_beds(
    rows: Manifest,
    bed: BedConfig,
    folder: Path,
    cache: Path | None,
    *,
    start: Encoder,
    workspace: Workspace,
    device: str,
    decoders: int,
    screen: Screen,
    writes: bool = True,
) -> Manifest:
    """A manifest whose videos are cropped to their beds; those without one are left out, unless they stay whole.

    What was found lies beside the frame cache: the detector looks once.

    Args:
        rows: the manifest; a `crop` of its own goes before what is found.
        bed: who looks, and how.
        folder: where its paths begin.
        cache: folder of the frame cache; None where there is none.
        start: an encoder whose frames are to be cropped.
        workspace: knows the beds of cameras.
        device: cpu or cuda.
        decoders: videos looked at at once.
        screen: for progress, and for what is left out.
        writes: whether this process looks; others wait for it.
    """
    from encoder.bed.crop import CropPolicy
    from encoder.bed.detector import MASK_RCNN, detector_id, prepared_detector
    from encoder.job.bed_survey import survey
    from encoder.model.identity import with_crop
    from index.files.durable import write_text_atomically
    from index.tables.store import Store
    from semiome.shipped import shipped_bed_detector

    named = {MASK_RCNN: MASK_RCNN, "simulated": str(shipped_bed_detector())}
    source = named.get(bed.detector, str(folder / bed.detector))
    path = None if cache is None else cache / _BEDS
    if path is not None and not writes:
        _wait_for(path)
    weights = None if bed.weights is None else folder / bed.weights
    with prepared_detector(source, weights) as detector:
        policy = CropPolicy(detector_id(detector), bed.confidence, bed.margin, bed.no_bed)
        found = _kept(path, policy, rows)
        if found is None:
            with screen.progress("Looking for beds") as progress:
                surveyed = survey(
                    rows, with_crop(start, policy, detector), Store(workspace), decoders, progress, device
                )
            found = {one.row.video_id: (one.kind, "" if one.crop is None else str(one.crop)) for one in surveyed}
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                card = {"policy": repr(policy), "files": _files(rows), "found": found}
                write_text_atomically(path, json.dumps(card, indent=1) + "\n")
    kept = []
    for row in rows.rows:
        kind, box = found[row.video_id]
        if kind == "refused":
            if writes:
                screen.warn(f"{row.video_id} is left out: no bed was found, or the video can't be read")
            continue
        kept.append(replace(row, crop=_crop(box) if box else None))
    return replace(rows, rows=tuple(kept))


def _crop(text: str) -> Crop:
    from encoder.picture import Crop

    return Crop(*map(int, text.split()))


def _kept(path: Path | None, policy: object, rows: Manifest) -> dict[str, tuple[str, str]] | None:
    """What an earlier look found, unless another detector looked at other videos."""
    if path is None or not path.exists():
        return None
    card = json.loads(path.read_text(encoding="utf-8"))
    if card["policy"] != repr(policy) or card["files"] != _files(rows):
        return None
    return {video: (kind, box) for video, (kind, box) in card["found"].items()}


def _files(rows: Manifest) -> list[list[object]]:
    from trainer.decoding import crop_text, file_bytes

    return [[row.video_id, row.file_name, crop_text(row), file_bytes(rows, row)] for row in rows.rows]


def _wait_for(path: Path) -> None:
    """Until another process of this machine has written a file; torchrun ends this one should the other fail."""
    import time

    while not path.exists():
        time.sleep(0.2)
