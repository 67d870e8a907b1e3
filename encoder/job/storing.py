"""Embedded clips to whole videos in the store, whatever is erased or away meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from encoder.job.events import EmbeddingEvent, VideoDone
from encoder.job.reading import ERASED
from encoder.job.report import EncodeReport, Refusal
from encoder.manifest import ManifestRow
from index.errors import Unreachable
from index.records import CLIP_SECONDS, EmbeddedClip, Video
from index.tables.committer import Committer
from index.tables.schema import NO_PICTURE
from index.tables.unfinished import LEAST_CLIPS, Unfinished

_COMMIT_CLIPS = 512
_COMMIT_EVERY_S = 30.0
_PAUSES_S = (1, 2, 5, 10, 20, 30, 30, 30, 30, 30, 30, 30, 30, 30)
"""Between the tries to store what is embedded while object storage is away: about five minutes in all."""


class Storing:
    """The consuming side of the encode job: clips to whole videos, those to the store.

    Args:
        committer: writes them.
        report: records what is done.
        progress: told how many videos are done, a part of one for each clip.
        unfinished: keeps the clips of long videos until these are stored.
        encoder_id: whose embeddings come.
        salvage: of a damaged file, keep the whole clips before the damage.
    """

    def __init__(
        self,
        committer: Committer,
        report: EncodeReport,
        progress: Callable[[float], None],
        unfinished: Unfinished,
        encoder_id: str,
        *,
        salvage: bool,
    ) -> None:
        self._committer = committer
        self._report = report
        self._progress = progress
        self._unfinished = unfinished
        self._encoder_id = encoder_id
        self._salvage = salvage
        self._finished: list[tuple[Video, list[EmbeddedClip]]] = []
        self._updated: list[Video] = []
        self._files: dict[str, str] = {}
        self._last_commit = time.monotonic()
        self._done = 0
        self._parts: dict[str, float] = {}
        self._clips: dict[str, list[EmbeddedClip]] = {}
        self._copies: dict[str, tuple[str, tuple[str, ...]]] = {}

    def consume(self, events: Iterator[EmbeddingEvent]) -> None:
        """Store what comes, to the end."""
        for event in events:
            video_id = event.row.video_id
            if isinstance(event, VideoDone):
                self._parts.pop(video_id, None)
                self._finish(event, [*event.kept, *self._clips.pop(video_id, [])])
            else:
                clips = self._clips.setdefault(video_id, [])
                clips.append(event.content)
                if event.clip_count >= LEAST_CLIPS:
                    self._unfinished.keep(self._encoder_id, event.source_sha256, event.content)
                done = event.content.clip.clip_index + 1
                self._parts[video_id] = done / max(event.clip_count, done)
            self._progress(self._done + sum(self._parts.values()))
        self.commit()

    def same_content(self, rows: Sequence[ManifestRow]) -> list[tuple[str, ...]]:
        """Ids of videos whose files are the same byte for byte, in the order of the manifest; not those refused."""
        owners: dict[str, dict[str, None]] = {}
        for row in rows:
            if row.video_id in self._copies:
                digest, others = self._copies[row.video_id]
                owners.setdefault(f"{digest} {row.segment}", {}).update(dict.fromkeys((row.video_id, *others)))
        return [tuple(ids) for ids in owners.values() if len(ids) > 1]

    def _finish(self, done: VideoDone, clips: list[EmbeddedClip]) -> None:
        """Hand a whole video on."""
        salvaged = done.damaged and self._salvage
        if salvaged:
            clips = [embedded for embedded in clips if embedded.clip.valid_seconds == CLIP_SECONDS]
        with suppress(Unreachable):  # it is asked again before anything is stored
            if self._committer.erased({done.row.patient_id}):
                done, clips, salvaged = replace(done, reason=ERASED), [], False  # since the job began
        if done.source_sha256 and not done.reason:
            self._copies[done.row.video_id] = done.source_sha256, done.copy_of
        if done.stored is not None and not done.reason:
            self._update(done, done.stored)
        elif done.reason and not (salvaged and clips):
            self._report.refused.append(Refusal(done.row.video_id, done.row.file_name, done.reason))
        else:
            if done.damaged:
                self._report.salvaged.append(Refusal(done.row.video_id, done.row.file_name, done.reason))
            self._report.clips_blank += sum(embedded.crop.startswith(NO_PICTURE) for embedded in clips)
            self._finished.append((_video(done, clips), clips))
        self._files[done.row.video_id] = done.row.file_name
        self._done += 1
        due = time.monotonic() - self._last_commit > _COMMIT_EVERY_S
        if due or sum(len(clips) for _, clips in self._finished) >= _COMMIT_CLIPS:
            self.commit()

    def _update(self, done: VideoDone, stored: Video) -> None:
        """Bring what is known of a stored video up to date; its vectors stay."""
        self._report.clips_skipped += stored.clip_count
        wanted = _described(done.row, stored)
        if wanted.patient_id != done.stored_patient_id:
            self._committer.reassign(wanted)
            self._report.videos_updated += 1
        elif wanted != stored:
            self._updated.append(wanted)
            self._report.videos_updated += 1

    def commit(self) -> None:
        """Store the videos that are finished, but for patients who have been erased meanwhile.

        What is embedded is not given up while object storage is away: it is tried again for some minutes.

        Raises:
            Unreachable: If it stayed away.
        """
        for pause_s in _PAUSES_S:
            try:
                return self._try()
            except Unreachable:
                self._progress(self._done + sum(self._parts.values()))
                time.sleep(pause_s)
                with suppress(Unreachable):
                    self._committer.reload()
        return self._try()

    def _try(self) -> None:
        waiting = [*(video for video, _ in self._finished), *self._updated]
        erased = self._committer.erased({video.patient_id for video in waiting})
        for video in waiting:
            if video.patient_id in erased:
                self._report.refused.append(Refusal(video.video_id, self._files[video.video_id], ERASED))
        self._finished = [held for held in self._finished if held[0].patient_id not in erased]
        self._updated = [video for video in self._updated if video.patient_id not in erased]
        self._committer.update_videos(self._updated)
        self._updated = []
        if self._finished:
            started = time.monotonic()
            self._report.clips_written += self._committer.commit(self._finished)
            self._report.videos_written += len(self._finished)
            self._report.seconds["committing"] += time.monotonic() - started
            self._unfinished.drop([video.video_id for video, _ in self._finished if video.clip_count >= LEAST_CLIPS])
            self._finished = []
        self._files = {}
        self._last_commit = time.monotonic()


def _video(done: VideoDone, clips: list[EmbeddedClip]) -> Video:
    video = Video(
        video_id=done.row.video_id,
        patient_id=done.row.patient_id,
        source_sha256=done.source_sha256,
        duration_s=round(max(one.clip.start_s + one.clip.valid_seconds for one in clips), 3) if clips else 0.0,
        clip_count=len(clips),
        salvaged=done.damaged,
    )
    return _described(done.row, video)


def _described(row: ManifestRow, video: Video) -> Video:
    """A video with what its manifest row says of it."""
    return replace(
        video,
        patient_id=row.patient_id,
        label=row.label,
        recorded_at=row.recorded_at,
        semiology=row.semiology,
        camera=row.camera,
        crop=str(row.crop or ""),
        split=row.split,
        metadata=row.metadata,
        start_s=row.start_s,
        end_s=row.end_s,
        onset_s=row.onset_s,
        seizure_end_s=row.seizure_end_s,
    )
