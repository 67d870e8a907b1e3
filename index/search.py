"""Which past seizures look like this one: exact search, filtered and grouped, over one immutable snapshot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from index.errors import EncoderMismatch, InvalidInput, NotFound
from index.generation import Generation
from index.query import (
    ANYTHING,
    MAX_K,
    ClipQuery,
    GroupBy,
    Query,
    SearchFilter,
    SearchResult,
    VectorQuery,
    VideoQuery,
)
from index.records import Clip, Neighbour, Video


class Snapshot:
    """One generation with what is known of its videos; never changed, so threads may share it."""

    def __init__(self, generation: Generation, videos: Mapping[str, Video]) -> None:
        self.generation = generation
        self.videos = dict(videos)
        clips = generation.clips
        self._row_of = {clip.clip_id: row for row, clip in enumerate(clips)}
        video_names, self._video_of_row = np.unique([clip.video_id for clip in clips], return_inverse=True)
        patient_names, self._patient_of_row = np.unique([clip.patient_id for clip in clips], return_inverse=True)
        self._video_names: list[str] = video_names.tolist()
        self._patient_code = {name: code for code, name in enumerate(patient_names.tolist())}
        self._rows_of_video: dict[str, list[int]] = {}
        for row, clip in enumerate(clips):
            self._rows_of_video.setdefault(clip.video_id, []).append(row)

    @property
    def encoder_id(self) -> str:
        """Whose embeddings these are."""
        return self.generation.manifest.encoder_id

    @property
    def name(self) -> str:
        """The generation's name."""
        return self.generation.manifest.generation

    def clips_of(self, item: ClipQuery | VideoQuery) -> tuple[tuple[Clip, ...], NDArray[np.float32]]:
        """A stored clip, or all clips of a video in order, with their vectors (M, D).

        Raises:
            NotFound: this generation does not have it.
        """
        if isinstance(item, ClipQuery):
            row = self._row_of.get(item.clip_id)
            rows = [] if row is None else [row]
            what = f"clip {item.clip_id[:64]!r}"
        else:
            rows = self._rows_of_video.get(item.video_id, [])
            what = f"video {item.video_id[:64]!r}"
        if not rows:
            raise NotFound(f"{what} is not in generation {self.name}: check the id, or rebuild the index if it is new")
        return tuple(self.generation.clips[row] for row in rows), self.generation.index.vectors[rows]

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        where: SearchFilter = ANYTHING,
        group_by: GroupBy = GroupBy.CLIP,
        include_own_patient: bool = False,
    ) -> SearchResult:
        """The k nearest clips, or groups of clips by their nearest, most similar first.

        Exact: equal to comparing with every clip. k groups are returned when k exist.

        Args:
            query: what to look for.
            k: how many hits, 1 to 1,000.
            where: what hits must be.
            group_by: what a hit stands for.
            include_own_patient: also return clips of the query's patient (never the query's own clips).

        Raises:
            InvalidInput: k or the vector is out of bounds, or the vector is of another encoder.
            NotFound: the query's clip or video is not in this generation.
        """
        if not 1 <= k <= MAX_K:
            raise InvalidInput(f"expected k of 1 to {MAX_K}, got {k}")
        vectors_QD, query_clips, patient = self._query_vectors(query)
        allowed = self._allowed(where, "" if include_own_patient else patient)
        allowed[[self._row_of[clip.clip_id] for clip in query_clips]] = False
        group_of_row = {
            GroupBy.CLIP: None,
            GroupBy.VIDEO: self._video_of_row,
            GroupBy.PATIENT: self._patient_of_row,
        }[group_by]
        hits = self._nearest_groups(vectors_QD, k, allowed, group_of_row)
        neighbours = tuple(
            self._neighbour(row, similarity, query_clips[asked].clip_id if query_clips else "")
            for row, similarity, asked in hits
        )
        return SearchResult(neighbours, self.encoder_id, self.name)

    def _query_vectors(self, query: Query) -> tuple[NDArray[np.float32], tuple[Clip, ...], str]:
        """Vectors (Q, D) of unit length, the clips they are of, and their patient."""
        if not isinstance(query, VectorQuery):
            clips, vectors = self.clips_of(query)
            return vectors, clips, clips[0].patient_id
        if not query.encoder_id:
            raise InvalidInput("expected the id of the encoder that made the vector, got none")
        if query.encoder_id != self.encoder_id:
            raise EncoderMismatch("the query vector", query.encoder_id[:64], self.encoder_id)
        vector = np.asarray(query.vector, np.float32)
        width = self.generation.index.width
        if vector.shape != (width,):
            raise InvalidInput(f"expected a vector of {width} values, got {vector.size}")
        if not np.isfinite(vector).all():
            raise InvalidInput("expected a vector of finite values, got NaN or infinity")
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not 1e-12 < length < np.inf:
            raise InvalidInput("expected a vector with a direction, got one of zero length")
        return (vector / np.float32(length))[None], (), query.patient_id

    def _allowed(self, where: SearchFilter, own_patient: str) -> NDArray[np.bool_]:
        if where == ANYTHING:
            allowed = np.ones(len(self.generation.clips), np.bool_)
        else:
            admitted = [name in self.videos and where.admits(self.videos[name]) for name in self._video_names]
            allowed = np.array(admitted, np.bool_)[self._video_of_row]
        code = self._patient_code.get(own_patient)
        if code is not None:
            allowed &= self._patient_of_row != code
        return allowed

    def _nearest_groups(
        self,
        vectors_QD: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_],
        group_of_row: NDArray[np.intp] | None,
    ) -> list[tuple[int, float, int]]:
        """(row, similarity, query number) of the best clip of each of the k best groups."""
        available = int(allowed.sum())
        # Once all groups are found, no deeper search is needed; of clips, each is a group of its own.
        groups = available if group_of_row is None else np.count_nonzero(np.bincount(group_of_row[allowed]))
        k = min(k, int(groups))
        depth = k
        while depth:
            similarities, rows = self.generation.index.search(vectors_QD, depth, allowed)
            order = np.lexsort((rows.ravel(), -similarities.ravel()))
            best: dict[int, tuple[int, float, int]] = {}
            for flat in order:
                row = int(rows.flat[flat])
                group = row if group_of_row is None else int(group_of_row[row])
                best.setdefault(group, (row, float(similarities.flat[flat]), int(flat // depth)))
                if len(best) == k:
                    break
            # What no query has returned yet is at most as similar as the worst that the deepest one returned.
            unseen = float(similarities[:, -1].max())
            hits = list(best.values())
            if depth == available or (len(hits) == k and hits[-1][1] >= unseen):
                return hits
            depth = min(depth * 4, available)
        return []

    def _neighbour(self, row: int, similarity: float, query_clip_id: str) -> Neighbour:
        clip = self.generation.clips[row]
        video = self.videos.get(clip.video_id)
        return Neighbour(clip, video.label if video else "", min(max(similarity, -1.0), 1.0), query_clip_id)
