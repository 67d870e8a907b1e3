"""Whose is whose, before anything is decoded: ids that may be misspelled, and one recording listed for two patients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from encoder.job.digests import FileDigests
from encoder.manifest import Manifest, ManifestRow
from index.errors import VideoRefused
from index.near_misses import near_misses
from index.records import Video


def doubtful_ids(manifest: Manifest, videos: Mapping[str, Video]) -> list[str]:
    """Ids of a manifest that differ from others, of the manifest or the store, only as typing errors do.

    Args:
        manifest: that is to be stored.
        videos: that are stored.

    Returns:
        A line for each group, such as `patient_id: P01, p1`.
    """
    lines = []
    for column in ("patient_id", "video_id", "split"):
        known = {getattr(video, column) for video in videos.values()} - {""}
        new = {getattr(row, column) for row in manifest.rows} - {""} - known
        lines += [f"{column}: {', '.join(group)}" for group in near_misses(new, known)]
    return lines


@dataclass(frozen=True, slots=True)
class Copies:
    """Which videos of other patients have the same file.

    Attributes:
        stored: stored videos, by digest of their file and then by patient.
        listed: of rows of the manifest: ids of rows of other patients with the same file.
        allowed: whether one recording may be stored for several patients.
    """

    stored: Mapping[str, Mapping[str, tuple[Video, ...]]]
    listed: Mapping[str, tuple[str, ...]]
    allowed: bool = False

    def check(self, row: ManifestRow, source_sha256: str) -> None:
        """Refuse a recording that is another patient's too.

        Raises:
            VideoRefused: If it is, and that is not allowed.
        """
        if self.allowed:
            return
        by_patient = self.stored.get(source_sha256, {})
        strangers = (video for patient, videos in by_patient.items() if patient != row.patient_id for video in videos)
        others = {video.video_id for video in strangers} - {row.video_id}
        names = sorted(others | set(self.listed.get(row.video_id, ())))
        if names:
            raise VideoRefused(
                f"the same file is {'stored' if others else 'listed'} already as {', '.join(names[:3])} of another "
                "patient: correct the manifest or remove that one; if one recording does show both patients, say why "
                "with --same-recording"
            )

    def beside(self, row: ManifestRow, source_sha256: str) -> tuple[str, ...]:
        """Ids of other stored videos of the same part of the same file that a row may stand beside, sorted."""
        by_patient = self.stored.get(source_sha256, {})
        may = (videos for patient, videos in by_patient.items() if self.allowed or patient == row.patient_id)
        same = {v.video_id for videos in may for v in videos if (v.start_s, v.end_s) == (row.start_s, row.end_s)}
        return tuple(sorted(same - {row.video_id}))


def copies(manifest: Manifest, videos: Iterable[Video], digests: FileDigests, *, allowed: bool = False) -> Copies:
    """Find them; only files of equal size are read for it."""
    stored: dict[str, dict[str, tuple[Video, ...]]] = {}
    for video in videos:
        of_file = stored.setdefault(video.source_sha256, {})
        of_file[video.patient_id] = (*of_file.get(video.patient_id, ()), video)
    listed = {} if allowed else _listed(manifest, digests)
    return Copies(stored, listed, allowed)


def _listed(manifest: Manifest, digests: FileDigests) -> dict[str, tuple[str, ...]]:
    by_size: dict[int, list[tuple[ManifestRow, Path]]] = defaultdict(list)
    for row in manifest.rows:
        try:
            for path in manifest.source(row).paths:
                by_size[path.stat().st_size].append((row, path))
        except (VideoRefused, OSError):
            continue  # refused with its reason when its turn comes
    copies: dict[str, tuple[str, ...]] = {}
    for rows in by_size.values():
        if len({row.patient_id for row, _ in rows}) < 2:
            continue
        by_digest: dict[str, list[ManifestRow]] = defaultdict(list)
        for row, path in rows:
            try:
                by_digest[digests.sha256(path)].append(row)
            except OSError:
                continue
        for same in by_digest.values():
            for row in same:
                if others := tuple(other.video_id for other in same if other.patient_id != row.patient_id):
                    copies[row.video_id] = tuple(sorted({*copies.get(row.video_id, ()), *others}))
    return copies
