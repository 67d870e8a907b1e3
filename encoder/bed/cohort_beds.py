"""Finding the beds of a manifest: each video's own, or the last one known of its camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from encoder.bed.crop import LEAST_PIXELS, CropPolicy, UsedCrop, used_crop
from encoder.bed.detector import Detector
from encoder.manifest import Manifest, ManifestRow
from encoder.picture import Crop, checked_crop, fits
from encoder.video.decoder import DecodeLimits, Decoder
from index.errors import VideoRefused
from index.records import Video
from index.tables.store import EncodedVideo

Watch = Callable[[ManifestRow, NDArray[np.uint8]], None]
_Known = tuple[tuple[int, int], Crop | None]
"""Width and height of a video's picture, and its bed."""


class BedFinder:
    """Says what part of a video to use, given its first picture. What it says does not depend on who asks first.

    Args:
        detector: may be asked by several threads.
        policy: the encoder's.
        manifest: all of the job; earlier rows of a camera tell where its bed stands.
        encoded: what the encoder's clip table holds, by video id, with the crops used; the same is asked of videos
            that the manifest does not name.
        videos: what is known of those videos, by video id.
        limits: of a decoding child, where another video has to be looked at.
        watch: is shown each row's picture, before anything is refused.
    """

    def __init__(
        self,
        detector: Detector,
        policy: CropPolicy,
        manifest: Manifest,
        encoded: Mapping[str, EncodedVideo],
        videos: Mapping[str, Video],
        limits: DecodeLimits,
        watch: Watch | None = None,
    ) -> None:
        self._detector = detector
        self._policy = policy
        self._manifest = manifest
        self._encoded = encoded
        self._videos = videos
        self._limits = limits
        self._watch = watch
        self._known: dict[str, _Known] = {}
        self._interrupted = False
        self._looking: Decoder | None = None

    def interrupt(self) -> None:
        """From another thread: look at no more videos of a camera."""
        self._interrupted = True
        if (decoder := self._looking) is not None:
            decoder.interrupt()

    def choose(self, row: ManifestRow, picture: NDArray[np.uint8]) -> UsedCrop:
        """What part of a video to use.

        Args:
            row: the video's.
            picture: (H, W, 3) RGB, its first.

        Raises:
            VideoRefused: If no bed was found, and the policy wants one; or the manifest's crop is not in the picture.
        """
        if self._watch is not None:
            self._watch(row, picture)
        size, box = self._look(row, picture)
        if row.crop is not None:
            return UsedCrop(checked_crop(row.crop, *size), "manifest", size)
        if box is not None:
            return UsedCrop(box, "bed", size)
        if self._policy.no_bed == "whole":
            return UsedCrop(None, "whole")
        if self._policy.no_bed == "camera" and row.camera:
            last = self._last_of_camera(row, size)
            if last is not None:
                return UsedCrop(last, "camera", size)
            raise VideoRefused(f"no bed was found in its first frame, and none is known of camera {row.camera}")
        raise VideoRefused("no bed was found in its first frame: give it a crop in the manifest, or another policy")

    def _look(self, row: ManifestRow, picture: NDArray[np.uint8]) -> _Known:
        height, width = picture.shape[:2]
        box = row.crop
        if box is None and min(width, height) >= LEAST_PIXELS:
            box = self._policy.crop(self._detector.beds(picture), width, height)
        self._known[row.video_id] = ((width, height), box)
        return self._known[row.video_id]

    def _last_of_camera(self, row: ManifestRow, size: tuple[int, int]) -> Crop | None:
        """The box of the last video before this one that has one, in pictures of the same size."""
        for earlier in reversed(self._before(row)):
            known_size, box = self._known.get(earlier.video_id) or self._look_at(earlier)
            if known_size == size and box is not None and fits(box, *size):
                return box
        named = {other.video_id for other in self._manifest.rows}
        stored = [
            (video.recorded_at, video.video_id, used.box)
            for video in self._videos.values()
            if video.camera == row.camera
            and video.video_id not in named
            and (encoded := self._encoded.get(video.video_id)) is not None
            and (used := used_crop(encoded.crop)).origin in {"bed", "manifest"}
            and used.picture == size
            and (not row.recorded_at or video.recorded_at <= row.recorded_at)
        ]
        return max(stored, key=lambda known: known[:2])[2] if stored else None

    def _before(self, row: ManifestRow) -> Sequence[ManifestRow]:
        """Rows of the same camera in the order of their dates; those without a date come first, as they stand."""
        rows = sorted(self._manifest.rows, key=lambda other: other.recorded_at)
        same = [other for other in rows if other.camera == row.camera]
        return same[: same.index(row)]

    def _look_at(self, row: ManifestRow) -> _Known:
        """Another video's bed; none when the video can't be read."""
        if self._interrupted:
            raise VideoRefused("interrupted")
        try:
            with Decoder(0, 0, self._limits) as decoder:
                self._looking = decoder
                return self._look(row, decoder.first_picture(self._manifest.source(row)))
        except (VideoRefused, OSError):
            self._known[row.video_id] = ((0, 0), None)
            return self._known[row.video_id]
        finally:
            self._looking = None
