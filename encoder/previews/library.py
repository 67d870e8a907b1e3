"""The previews of a workspace: a folder for each video, made once, found again, gone with the patient."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.clips import Segment, Source
from encoder.job.digests import FileDigests
from encoder.manifest import Manifest, ManifestRow
from encoder.video.decoder import DecoderPool
from encoder.video.worker_process import Preview
from index.errors import InvalidInput, Locked, NotFound, VideoRefused
from index.files.durable import is_plain, new_folder, small_file, write_atomically
from index.records import ID, Video
from index.tables.store import Store
from index.workspace import Workspace

LONGEST_S = 7200.0
"""Longest video in seconds that a film is made of: it would take hours, and gigabytes."""
_FILM, _FACTS = "film.mp4", "preview.json"
_MOST_STRIP_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class StoredPreview:
    """A preview that is there.

    Attributes:
        film: MP4.
        fps: its frames a second.
    """

    film: Path
    fps: int


@dataclass(frozen=True, slots=True)
class PreviewsMade:
    """What was made, was there already, and was not, with the reason, by video id."""

    made: tuple[str, ...]
    there: tuple[str, ...]
    refused: dict[str, str]


def stored_preview(workspace: Workspace, video: Video) -> StoredPreview:
    """The preview of a video.

    Raises:
        NotFound: If there is none of the file that its embeddings are of.
    """
    folder = _folder(workspace, video.video_id)
    try:
        facts = json.loads(small_file(folder / _FACTS))
        made_of = facts["source_sha256"], facts.get("segment", "")
        if is_plain(folder / _FILM) and made_of == (video.source_sha256, _segment(video)):
            return StoredPreview(folder / _FILM, int(facts["fps"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise NotFound("that video has no preview: `semiome previews MANIFEST` makes it from the file that was encoded")


def stored_strip(workspace: Workspace, video: Video, clip_index: int) -> bytes:
    """Thumbnails of the ten seconds from `10 * clip_index` on, JPEG.

    Raises:
        NotFound: If there are none of the file that its embeddings are of.
    """
    try:
        return small_file(stored_preview(workspace, video).film.parent / f"{clip_index}.jpg", _MOST_STRIP_BYTES)
    except (OSError, ValueError):
        raise NotFound("those seconds have no thumbnails: `semiome previews MANIFEST` makes them") from None


@dataclass(frozen=True, slots=True)
class Exported:
    """A film that was written to a file.

    Attributes:
        seconds: its length.
        faces_blurred: whether faces were looked for.
        without_a_face: from when to when, in seconds, none was found: a person should look there.
    """

    seconds: float
    faces_blurred: bool
    without_a_face: tuple[tuple[float, float], ...]


def export_film(
    workspace: Workspace,
    video_id: str,
    to: Path,
    *,
    blur_faces: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the small film of a stored video to a file.

    Args:
        workspace: where its preview is.
        video_id: the video's.
        to: the file, MP4; none may be there.
        blur_faces: find faces and make them unrecognisable.
        progress: told (pictures done, pictures in all), each of them looked at once and written once.

    Raises:
        NotFound: If the video is not stored, or has no preview.
        InvalidInput: If the file is there already, or its folder is not.
        StateError: If the extra for faces is not installed.
    """
    video = Store(workspace).videos().get(video_id)
    if video is None:
        raise NotFound("that video is not stored: check the id")
    if to.exists():
        raise InvalidInput(f"{to.name} is there already: choose another name")
    if not os.access(to.parent, os.W_OK):
        raise InvalidInput("the film's folder is missing, or may not be written to")
    preview = stored_preview(workspace, video)
    facts = json.loads(small_file(preview.film.parent / _FACTS))
    fps, seconds = preview.fps, float(facts["seconds"])
    from encoder.previews.faces import blurred, find_faces, stretches_without
    from encoder.video.writer import own_pictures, write_h264  # PyAV: a server that only shows previews needs none

    if not blur_faces:

        def copy(part: Path) -> None:
            shutil.copyfile(preview.film, part)

        write_atomically(to, copy)
        return Exported(seconds, faces_blurred=False, without_a_face=())
    total = 2 * round(seconds * fps)
    looks = find_faces(own_pictures(preview.film), fps, lambda number: progress(number, total))
    seen: list[bool] = []

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for picture, there in blurred(own_pictures(preview.film), looks, fps):
            seen.append(there)
            progress(total // 2 + len(seen), total)
            yield picture

    write_h264(to, pictures(), fps, facts["width"], facts["height"])
    return Exported(seconds, faces_blurred=True, without_a_face=stretches_without(seen, fps))


def remove_previews_of_the_gone(workspace: Workspace) -> None:
    """Remove previews of videos that are stored no more, as where another host of a shared workspace removed them."""
    folders = [path for path in workspace.previews.iterdir() if path.is_dir()] if workspace.previews.is_dir() else []
    stored = Store(workspace).videos() if folders else {}  # read after the folders: a new one's video is among them
    for folder in folders:
        if folder.name not in stored:
            shutil.rmtree(folder, ignore_errors=True)


def make_previews(
    manifest: Manifest,
    workspace: Workspace,
    decoders: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreviewsMade:
    """Make a preview of each stored video of a manifest that has none of just that file.

    Args:
        manifest: names the files.
        workspace: where the previews go.
        decoders: videos at once, each in a child process.
        progress: told (videos done, videos in all).

    Raises:
        StateError: If nothing is stored yet.
        DiskFull: If no space is left; those that were made are kept.
    """
    videos = Store(workspace).videos()
    made: list[str] = []
    there: list[str] = []
    refused: dict[str, str] = {}
    digests = FileDigests()
    pool = DecoderPool(decoders, 0, 0)

    def work(row: ManifestRow) -> bool:
        video = videos.get(row.video_id)
        if video is None:
            raise VideoRefused("it is not stored: encode it first")
        if _is_there(workspace, video):
            return False
        if video.duration_s > LONGEST_S:
            raise VideoRefused(f"it is longer than {LONGEST_S / 3600:.0f} hours: cut out what is to be looked at")
        source = _same_file(manifest, row, video, digests)
        with pool.decoder_for(source.path) as decoder:
            preview = decoder.preview(source)
        _write(workspace, video, preview)
        if row.video_id not in Store(workspace).videos():  # erased meanwhile
            shutil.rmtree(_folder(workspace, row.video_id), ignore_errors=True)
            raise VideoRefused("its patient was erased meanwhile")
        return True

    total = len(manifest.rows)
    progress(0, total)
    with pool, ThreadPoolExecutor(decoders) as threads:
        try:
            tasks = {threads.submit(work, row): row.video_id for row in manifest.rows}
            for done, task in enumerate(as_completed(tasks), start=1):
                try:
                    (made if task.result() else there).append(tasks[task])
                except (VideoRefused, Locked) as error:
                    refused[tasks[task]] = str(error)
                progress(done, total)
        finally:
            pool.interrupt()  # what is under way ends soon where this ends early, Ctrl-C above all
            threads.shutdown(cancel_futures=True)
    return PreviewsMade(tuple(sorted(made)), tuple(sorted(there)), dict(sorted(refused.items())))


def _folder(workspace: Workspace, video_id: str) -> Path:
    if not ID.fullmatch(video_id):  # it becomes a path
        raise NotFound("that video is not stored: check the id")
    return workspace.previews / video_id


def _is_there(workspace: Workspace, video: Video) -> bool:
    try:
        stored_preview(workspace, video)
    except NotFound:
        return False
    return True


def _segment(video: Video) -> str:
    return str(Segment(video.start_s, video.end_s))


def _same_file(manifest: Manifest, row: ManifestRow, video: Video, digests: FileDigests) -> Source:
    source = manifest.source(row)
    if str(row.segment) != _segment(video):
        raise VideoRefused("the row names another part of the file than was encoded: encode it again first")
    try:
        same = digests.of(source) == video.source_sha256
    except OSError as error:
        raise VideoRefused(f"the file can't be read: {error.strerror}") from None
    if not same:
        raise VideoRefused("the file is another one than was encoded: encode it again first")
    return source


def _write(workspace: Workspace, video: Video, preview: Preview) -> None:
    folder = _folder(workspace, video.video_id)
    workspace.previews.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.rmtree(folder, ignore_errors=True)  # of another file
    facts = {
        "video_id": video.video_id,
        "source_sha256": video.source_sha256,
        "segment": _segment(video),
        "fps": preview.fps,
        "width": preview.width,
        "height": preview.height,
        "seconds": preview.seconds,
    }
    with new_folder(folder) as building:
        (building / _FACTS).write_text(json.dumps(facts), encoding="utf-8")  # first: it says whose the rest is
        (building / _FILM).write_bytes(preview.mp4)
        for index, jpeg in preview.strips.items():
            (building / f"{index}.jpg").write_bytes(jpeg)
