"""The video tracks of a file, and which of them is the film: there is one, or the manifest says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from index.errors import VideoRefused

CODECS = frozenset(
    {
        *("h264", "hevc", "mpeg4", "mjpeg", "mpeg2video", "mpeg1video", "vp8", "vp9", "av1", "wmv1", "wmv2", "wmv3"),
        *("vc1", "msmpeg4v2", "msmpeg4v3", "dvvideo", "flv1"),
    }
)
"""Codecs that hospitals export; everything else in FFmpeg stays out of reach."""
_PICTURES = frozenset({"png", "bmp", "gif", "tiff", "webp", "apng"})
"""Codecs of covers and thumbnails, never of a film."""
_MOST_LISTED = 8
_SMALLER = 4
_THUMBNAILS_A_SECOND = 2
"""A thumbnail track has at most a quarter of a film's pixels, and no more pictures a second; all else is a film."""


@dataclass(frozen=True, slots=True)
class Track:
    """One video track, as the demuxer found it.

    Attributes:
        number: FFmpeg's number of it in the file, audio and other tracks counted.
        codec: FFmpeg's canonical name.
        width: in pixels.
        height: in pixels.
        pictures: packets that can be shown.
        seconds: from its first picture to its last.
        beside: marked as a cover, a thumbnail or a still image.
    """

    number: int
    codec: str
    width: int
    height: int
    pictures: int
    seconds: Fraction
    beside: bool

    @property
    def rate(self) -> Fraction:
        """Pictures a second on average; 0 where there is one alone."""
        return Fraction(self.pictures - 1) / self.seconds if self.seconds else Fraction(0)

    def __str__(self) -> str:
        pictures = f"{self.pictures} picture{'' if self.pictures == 1 else 's'}"
        return f"track {self.number}: {self.codec}, {self.width} x {self.height}, {pictures}"


def chosen(tracks: Sequence[Track], wanted: int | None) -> Track:
    """The film among the tracks.

    Args:
        tracks: all video tracks.
        wanted: the number that the manifest gives, if it gives one.

    Raises:
        VideoRefused: If there is none, or none of that number, or more than one; or its codec is not allowed.
    """
    listed = "; ".join(map(str, tracks[:_MOST_LISTED])) + ("; …" if len(tracks) > _MOST_LISTED else "")
    if wanted is not None:
        films = [track for track in tracks if track.number == wanted]
        if not films:
            has = f"the video tracks are {listed}" if tracks else "there is no video track"
            raise VideoRefused(f"no video track {wanted} in this file: {has}")
    else:
        films = _films(tracks)
        if not films:
            raise VideoRefused("no video stream")
        if len(films) > 1:
            raise VideoRefused(
                f"{len(films)} films in one file: give the number of one in the manifest's column track ({listed})"
            )
    film = films[0]
    if film.codec not in CODECS:
        raise VideoRefused(f"codec {film.codec} is not allowed: expected one of {', '.join(sorted(CODECS))}")
    return film


def _films(tracks: Sequence[Track]) -> list[Track]:
    """Tracks that are neither empty nor marked as a picture nor a small, slow copy of another one."""
    moving = [t for t in tracks if not t.beside and t.codec not in _PICTURES and t.pictures]
    films = [t for t in moving if not any(_is_thumbnail_of(t, other) for other in moving)]
    # A header without packets: damaged, or a track that was never filled. It is the film where nothing else is.
    return films or [t for t in tracks if not t.beside]


def _is_thumbnail_of(track: Track, film: Track) -> bool:
    if track.pictures == 1 < film.pictures:
        return True  # a cover
    smaller = track.width * track.height * _SMALLER <= film.width * film.height
    return smaller and track.rate <= _THUMBNAILS_A_SECOND < film.rate
