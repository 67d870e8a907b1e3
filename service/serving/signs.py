"""Signs over time: how probable each is in every clip of a snapshot, and in which videos a course of signs occurs."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from encoder.sign_grammar import parsed
from encoder.signs import SignHeads, stretches
from index.errors import NotFound
from index.query import VideoQuery
from index.records import Clip
from index.search.snapshot import Snapshot
from index.semiology import Stretch
from service.records import SignTrack

_BLOCK_ROWS = 65_536
_REMEMBERED = 32


class SignTracks:
    """What sign heads say of the clips of a snapshot; computed when it is first asked for, and kept.

    Attributes:
        heads: the sign heads.
    """

    def __init__(self, heads: SignHeads, snapshot: Snapshot) -> None:
        self.heads, self._snapshot = heads, snapshot
        self._holding = lru_cache(_REMEMBERED)(self._find)

    def of_video(self, video_id: str) -> tuple[tuple[Clip, ...], tuple[SignTrack, ...]]:
        """A stored video's clips in time, and for each sign how probable it is in them and where it lies.

        Raises:
            NotFound: If the video is not stored.
        """
        rows = self._snapshot.rows_of(VideoQuery(video_id))
        clips = tuple(self._snapshot.clip(int(row)) for row in rows)
        order = sorted(range(len(clips)), key=lambda n: clips[n].start_s)
        clips, said = tuple(clips[n] for n in order), self._probabilities[rows[order]]
        tracks = (
            SignTrack(sign, tuple(said[:, n].tolist()), tuple(stretches(clips, said[:, n])))
            for n, sign in enumerate(self.heads.card.signs)
        )
        return clips, tuple(tracks)

    def videos_with(self, text: str) -> frozenset[str]:
        """Ids of the videos in which a course of signs occurs, see `encoder.sign_grammar`.

        Raises:
            InvalidInput: If it is no sentence of the grammar, or names a sign that is not judged.
        """
        return self._holding(text)

    @cached_property
    def _probabilities(self) -> NDArray[np.float32]:
        """(N, S) of all rows of the snapshot."""
        snapshot, found = self._snapshot, []
        for at in range(0, len(snapshot), _BLOCK_ROWS):
            rows = np.arange(at, min(at + _BLOCK_ROWS, len(snapshot)))
            found.append(self.heads.probabilities(snapshot.vectors(rows), snapshot.encoder_id))
        return np.concatenate(found) if found else np.empty((0, len(self.heads.card.signs)), np.float32)

    @cached_property
    def _stretches(self) -> dict[str, dict[str, tuple[Stretch, ...]]]:
        """Where each sign is probable in every video: what courses are looked for in."""
        found = {}
        for video_id in self._snapshot.video_ids:
            if video_id not in self._snapshot.videos:
                continue
            with suppress(NotFound):  # all its clips are gone from the table
                found[video_id] = {track.sign.name: track.stretches for track in self.of_video(video_id)[1]}
        return found

    def _find(self, text: str) -> frozenset[str]:
        query = parsed(text, self.heads.card.names, dict(self.heads.card.not_judged))
        return frozenset(video_id for video_id, tracks in self._stretches.items() if query.holds(tracks).holds)
