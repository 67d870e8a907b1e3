"""The frame cache: every clip's frames in one file on disk, decoded once, and a card that says what they are."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from encoder.manifest import Manifest, ManifestRow
from encoder.picture import RESIZE
from encoder.video.decoder import Decoder
from index.errors import DamagedData, InvalidInput, StateError, VideoRefused
from index.files.durable import sync_file, write_atomically, write_text_atomically
from trainer.clips import LATER, ChosenFrames, LeftOut, TrainingClip, TrainingClips
from trainer.decoding import Progress, crop_text, decode_each, each_video, file_bytes

_FRAMES, _CARD, _REFERENCES = "frames.u8", "clips.json", "references.npz"
_SPARE_BYTES = 2**30


def clip_counts(manifest: Manifest, decoders: int, progress: Progress) -> list[int]:
    """How many clips each video of a manifest has, by their timestamps; no picture is decoded."""

    def count(decoder: Decoder, row: ManifestRow) -> int:
        try:
            return decoder.count(manifest.source(row))
        except (VideoRefused, OSError):
            return 0  # said when it is decoded

    return list(each_video(manifest, count, 1, 32, decoders, progress))


def frame_bytes(num_frames: int, size: int) -> int:
    """How large one clip's frames are."""
    return num_frames * size * size * 3


def spare_bytes(folder: Path) -> int:
    """What the disk of a folder has for frames, less a reserve; the folder need not be there."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free - _SPARE_BYTES


def build_cache(
    manifest: Manifest,
    folder: Path,
    num_frames: int,
    size: int,
    decoders: int,
    progress: Progress = lambda done, total: None,
) -> TrainingClips:
    """Decode a manifest into a frame cache on disk: the frames first, then the card that makes it one.

    Raises:
        InvalidInput: If no video can be read.
        StateError: If the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CARD).unlink(missing_ok=True)
    whole = False
    try:
        with (folder / _FRAMES).open("wb") as stream:
            clips, left_out = decode_each(
                manifest, num_frames, size, decoders, progress, lambda frames: stream.write(frames.tobytes())
            )
        whole = True
    except OSError as error:
        raise StateError(f"the frame cache can't be written: {error.strerror}") from None
    finally:
        if not whole:  # half a cache is none, and may fill the disk
            (folder / _FRAMES).unlink(missing_ok=True)
    _seal(folder, (len(clips), num_frames, size, size, 3), clips, left_out)
    return read_cache(folder)


def write_cache(folder: Path, frames: NDArray[np.uint8], clips: Sequence[TrainingClip]) -> None:
    """Write clips that are in memory as a frame cache."""
    check_room(folder, frames.nbytes)
    (folder / _CARD).unlink(missing_ok=True)
    frames.tofile(folder / _FRAMES)
    _seal(folder, frames.shape, clips, ())


def check_room(folder: Path, size_bytes: int) -> None:
    """Make the folder and see whether a cache of that size fits.

    Raises:
        StateError: If it does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if size_bytes > (spare := spare_bytes(folder)):
        raise StateError(
            f"the frame cache takes {size_bytes / 2**30:.1f} GiB and the disk has {spare / 2**30:.1f} for it: name "
            "another folder, or train with fewer or smaller frames"
        )


def read_cache(folder: Path) -> TrainingClips:
    """Open a frame cache; the frames stay on disk, memory-mapped.

    Raises:
        InvalidInput: If there is none.
        DamagedData: If its files don't fit each other.
    """
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        shape = tuple(int(size) for size in card["shape"])
        resized = card.get("resize")
        clips = tuple(_clip(values) for values in card["clips"])
        left_out = tuple(LeftOut(**values) for values in card["left_out"])
        found = (folder / _FRAMES).stat().st_size
    except FileNotFoundError:
        raise InvalidInput(f"no frame cache in {folder.name}: {_FRAMES} or {_CARD} is missing") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedData(
            f"the frame cache can't be read ({type(error).__name__}): delete it to make it again"
        ) from None
    if resized != RESIZE:
        raise InvalidInput("the frame cache was made by a version that resizes pictures differently: delete it")
    expected = int(np.prod(shape))
    if len(shape) != 5 or shape[0] != len(clips) or found != expected:
        raise DamagedData(f"expected {expected} bytes of frames in the cache, got {found}: delete it to make it again")
    frames = np.memmap(folder / _FRAMES, np.uint8, "r", shape=shape)
    return TrainingClips(ChosenFrames(frames, range(len(clips))), clips, left_out)


def matches(clips: TrainingClips, manifest: Manifest, num_frames: int, size: int) -> None:
    """Check that a cache holds what a manifest describes, as the encoder wants it.

    Raises:
        InvalidInput: If it does not.
    """
    if clips.frames.shape[1:3] != (num_frames, size):
        frames, side = clips.frames.shape[1:3]
        raise InvalidInput(
            f"expected a frame cache of {num_frames} frames of {size} pixels, got {frames} of {side}: name another one"
        )
    wanted = {
        (row.video_id, row.patient_id, row.label, row.split, row.camera, crop_text(row), file_bytes(manifest, row))
        for row in manifest.rows
    }
    held = {
        (clip.video_id, clip.patient_id, clip.label, clip.split, clip.camera, clip.crop, clip.file_bytes)
        for clip in clips.clips
    }
    unread = {video.video_id for video in clips.left_out}
    if differing := {row for row in wanted ^ held if row[0] not in unread}:
        raise InvalidInput(
            f"the frame cache was made from another manifest or other files: {len({row[0] for row in differing})} "
            "videos differ; delete it to make it again"
        )


def write_references(folder: Path, references: dict[str, NDArray[np.float32]]) -> None:
    """Put features (N, D) beside a cache, without learning them: what a simulation knows of its clips."""

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **cast(Any, references))

    write_atomically(folder / _REFERENCES, write)


def read_references(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Features beside a cache, by name; most have none."""
    path = folder / _REFERENCES
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        raise DamagedData(f"{_REFERENCES} can't be read: delete it, or make the cache again") from None


def _seal(folder: Path, shape: Sequence[int], clips: Sequence[TrainingClip], left_out: Sequence[LeftOut]) -> None:
    sync_file(folder / _FRAMES)
    card = {
        "resize": RESIZE,
        "shape": list(shape),
        "left_out": [asdict(video) for video in left_out],
        "clips": [asdict(clip) for clip in clips],
    }
    write_text_atomically(folder / _CARD, json.dumps(card) + "\n")


def _clip(values: dict[str, Any]) -> TrainingClip:
    known = {field.name: values[field.name] for field in fields(TrainingClip) if field.name not in LATER}
    later = {name: values[name] for name in LATER & set(values)}
    return TrainingClip(**known | later | {name: tuple(values.get(name, ())) for name in ("signs", "tags")})
