"""The clips a training run looks at: decoded once, kept in memory or in a frame cache on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from encoder.decoder import Decoder
from encoder.manifest import Manifest, ManifestRow
from index.errors import DamagedData, InvalidInput, StateError, VideoRefused
from index.files import sha256_of_file, sync_file, write_atomically, write_text_atomically

_FRAMES, _CARD, _REFERENCES = "frames.u8", "clips.json", "references.npz"
_SPARE_BYTES = 2**30
Progress = Callable[[int, int], None]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """One clip, and what is known of it.

    Attributes:
        video_id: of its video.
        patient_id: of its patient.
        clip_index: number in its video.
        label: `TLE`, `exTLE` or empty.
        split: of its video, or empty.
        camera: of its video, or empty.
        source_sha256: digest of its file; tells copies of one file under two names.
        signs: what it shows, where that is known clip by clip (simulated cohorts).
        crop: the part of the picture that was used, as in the manifest, or empty.
        file_bytes: size of its file.
    """

    video_id: str
    patient_id: str
    clip_index: int
    label: str = ""
    split: str = ""
    camera: str = ""
    source_sha256: str = ""
    signs: tuple[str, ...] = ()
    crop: str = ""
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A video that could not be read to its end: none of its clips is used, and none takes their place."""

    video_id: str
    reason: str


class ChosenFrames:
    """Some clips of a memory map, read when they are asked for: a cache may be larger than memory.

    Args:
        frames: (N, T, S, S, 3) uint8.
        rows: which of them, in order.
    """

    def __init__(self, frames: NDArray[np.uint8], rows: Sequence[int]) -> None:
        self._frames, self._rows = frames, np.asarray(rows, np.intp)

    @property
    def shape(self) -> tuple[int, ...]:
        """As an array's."""
        return (len(self._rows), *self._frames.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, wanted: int | slice | list[int]) -> NDArray[np.uint8]:
        chosen: NDArray[np.uint8] = self._frames[self._rows[wanted]]
        return chosen

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self._frames[row] for row in self._rows)

    def among(self, numbers: Sequence[int]) -> ChosenFrames:
        """Some of these."""
        return ChosenFrames(self._frames, self._rows[list(numbers)].tolist())


Frames = NDArray[np.uint8] | ChosenFrames


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """Frames of many clips.

    Attributes:
        frames: (N, T, S, S, 3) uint8 RGB, in memory or read from a cache as they are asked for.
        clips: one for each.
        left_out: videos that are not among them.
    """

    frames: Frames
    clips: tuple[TrainingClip, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def video_of(self) -> list[int]:
        """Number of each clip's video."""
        return _numbers([clip.video_id for clip in self.clips])

    @property
    def patient_of(self) -> list[int]:
        """Number of each clip's patient."""
        return _numbers([clip.patient_id for clip in self.clips])

    @property
    def camera_of_video(self) -> list[str]:
        """Camera of each video number."""
        return list({clip.video_id: clip.camera for clip in self.clips}.values())

    def of(self, wanted: Callable[[TrainingClip], bool]) -> TrainingClips:
        """The clips that are wanted."""
        kept = [number for number, clip in enumerate(self.clips) if wanted(clip)]
        frames = self.frames.among(kept) if isinstance(self.frames, ChosenFrames) else self.frames[kept]
        return TrainingClips(frames, tuple(self.clips[number] for number in kept), self.left_out)

    def digest(self) -> str:
        """Over what the clips are, not over their pictures: ranks on which it differs train on different things."""
        described = json.dumps([self.frames.shape, [asdict(clip) for clip in self.clips]])
        return hashlib.sha256(described.encode()).hexdigest()


def decode_all(
    manifest: Manifest, num_frames: int, size: int, decoders: int, progress: Progress = lambda done, total: None
) -> TrainingClips:
    """Decode every clip of a manifest into memory, `decoders` videos at a time, each in a child process.

    Raises:
        InvalidInput: no video can be read.
    """
    frames: list[NDArray[np.uint8]] = []
    clips, left_out = _decoded(manifest, num_frames, size, decoders, progress, frames.append)
    return TrainingClips(np.stack(frames), clips, left_out)


def cache_bytes(manifest: Manifest, num_frames: int, size: int, decoders: int, progress: Progress) -> int:
    """How large the frame cache of a manifest will be, by its videos' timestamps; no picture is decoded."""

    def count(decoder: Decoder, row: ManifestRow) -> int:
        try:
            return decoder.count(manifest.path_of(row))
        except (VideoRefused, OSError):
            return 0  # said when it is decoded

    return sum(_each(manifest.rows, count, num_frames, size, decoders, progress)) * num_frames * size * size * 3


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
        InvalidInput: no video can be read.
        StateError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CARD).unlink(missing_ok=True)
    try:
        with (folder / _FRAMES).open("wb") as stream:
            clips, left_out = _decoded(
                manifest, num_frames, size, decoders, progress, lambda frames: stream.write(frames.tobytes())
            )
    except BaseException as error:
        (folder / _FRAMES).unlink(missing_ok=True)  # half a cache is none, and may fill the disk
        if isinstance(error, OSError):
            raise StateError(f"the frame cache can't be written: {error.strerror}") from None
        raise
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
        StateError: it does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size_bytes + _SPARE_BYTES > free:
        raise StateError(
            f"the frame cache takes {size_bytes / 2**30:.1f} GiB and the disk has {free / 2**30:.1f}: name another "
            "folder, or train with fewer or smaller frames"
        )


def read_cache(folder: Path) -> TrainingClips:
    """Open a frame cache; the frames stay on disk, memory-mapped.

    Raises:
        InvalidInput: there is none.
        DamagedData: its files don't fit each other.
    """
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        shape = tuple(int(size) for size in card["shape"])
        clips = tuple(_clip(values) for values in card["clips"])
        left_out = tuple(LeftOut(**values) for values in card["left_out"])
        found = (folder / _FRAMES).stat().st_size
    except FileNotFoundError:
        raise InvalidInput(f"no frame cache in {folder.name}: {_FRAMES} or {_CARD} is missing") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedData(
            f"the frame cache can't be read ({type(error).__name__}): delete it, it is made anew"
        ) from None
    expected = int(np.prod(shape))
    if len(shape) != 5 or shape[0] != len(clips) or found != expected:
        raise DamagedData(f"expected {expected} bytes of frames in the cache, got {found}: delete it, it is made anew")
    frames = np.memmap(folder / _FRAMES, np.uint8, "r", shape=shape)
    return TrainingClips(ChosenFrames(frames, range(len(clips))), clips, left_out)


def matches(clips: TrainingClips, manifest: Manifest, num_frames: int, size: int) -> None:
    """Check that a cache holds what a manifest describes, as the encoder wants it.

    Raises:
        InvalidInput: it does not.
    """
    if clips.frames.shape[1:3] != (num_frames, size):
        frames, side = clips.frames.shape[1:3]
        raise InvalidInput(
            f"expected a frame cache of {num_frames} frames of {size} pixels, got {frames} of {side}: name another one"
        )
    wanted = {
        (row.video_id, row.patient_id, row.label, row.split, row.camera, _crop(row), _bytes(manifest, row))
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
            "videos differ; delete it, it is made anew"
        )


def _crop(row: ManifestRow) -> str:
    return "" if row.crop is None else f"{row.crop.x} {row.crop.y} {row.crop.w} {row.crop.h}"


def _bytes(manifest: Manifest, row: ManifestRow) -> int:
    """Size of a video's file; 0 where it can't be read."""
    try:
        return manifest.path_of(row).stat().st_size
    except (VideoRefused, OSError):
        return 0


def write_references(folder: Path, references: dict[str, NDArray[np.float32]]) -> None:
    """Put features (N, D) beside a cache, that nobody has to learn: what a simulation knows of its clips."""

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
        raise DamagedData(f"{_REFERENCES} can't be read: delete it, or make the cache anew") from None


def _seal(folder: Path, shape: Sequence[int], clips: Sequence[TrainingClip], left_out: Sequence[LeftOut]) -> None:
    sync_file(folder / _FRAMES)
    card = {
        "shape": list(shape),
        "left_out": [asdict(video) for video in left_out],
        "clips": [asdict(clip) for clip in clips],
    }
    write_text_atomically(folder / _CARD, json.dumps(card) + "\n")


def _clip(values: dict[str, Any]) -> TrainingClip:
    return TrainingClip(
        **{field.name: values[field.name] for field in fields(TrainingClip)} | {"signs": tuple(values["signs"])}
    )


def _decoded(
    manifest: Manifest,
    num_frames: int,
    size: int,
    decoders: int,
    progress: Progress,
    keep: Callable[[NDArray[np.uint8]], object],
) -> tuple[tuple[TrainingClip, ...], tuple[LeftOut, ...]]:
    """Hand every clip's frames to `keep`, in the order of the manifest; a video that breaks off gives none."""

    def decode(decoder: Decoder, row: ManifestRow) -> tuple[str, list[NDArray[np.uint8]]] | LeftOut:
        try:
            path = manifest.path_of(row)
            return sha256_of_file(path), [clip.frames for clip in decoder.decode(path, row.crop)]
        except VideoRefused as refused:
            return LeftOut(row.video_id, str(refused))
        except OSError as error:
            return LeftOut(row.video_id, f"the file can't be read: {error.strerror}")

    clips: list[TrainingClip] = []
    left_out: list[LeftOut] = []
    outcomes = _each(manifest.rows, decode, num_frames, size, decoders, progress)
    for row, outcome in zip(manifest.rows, outcomes, strict=True):
        if isinstance(outcome, LeftOut):
            left_out.append(outcome)
            continue
        digest, frames = outcome
        for number, picture in enumerate(frames):
            keep(picture)
            clips.append(
                TrainingClip(
                    *(row.video_id, row.patient_id, number, row.label, row.split, row.camera, digest),
                    crop=_crop(row),
                    file_bytes=_bytes(manifest, row),
                )
            )
    if not clips:
        raise InvalidInput(f"none of {len(manifest.rows)} videos can be read; the first: {left_out[0].reason}")
    return tuple(clips), tuple(left_out)


def _each(
    rows: Sequence[ManifestRow],
    work: Callable[[Decoder, ManifestRow], Found],
    num_frames: int,
    size: int,
    decoders: int,
    progress: Progress,
) -> Iterator[Found]:
    """What `work` finds in each video, in order, `decoders` of them at a time and not many more in memory."""
    idle: SimpleQueue[Decoder] = SimpleQueue()
    pool, waiting = ThreadPoolExecutor(decoders), deque[Future[Found]]()
    all_decoders = [Decoder(num_frames, size) for _ in range(decoders)]
    for decoder in all_decoders:
        idle.put(decoder)

    def task(row: ManifestRow) -> Found:
        decoder = idle.get()
        try:
            return work(decoder, row)
        finally:
            idle.put(decoder)

    progress(0, len(rows))
    try:
        done = 0
        for row in rows:
            waiting.append(pool.submit(task, row))
            if len(waiting) > decoders:
                yield waiting.popleft().result()
                done += 1
                progress(done, len(rows))
        for future in waiting:
            yield future.result()
            done += 1
            progress(done, len(rows))
    finally:
        for decoder in all_decoders:
            decoder.interrupt()
        pool.shutdown(cancel_futures=True)
        for decoder in all_decoders:
            decoder.close()


def _numbers(names: Sequence[str]) -> list[int]:
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [order[name] for name in names]
