"""What a search reads: one generation, the rows committed after it, and what is known of their videos.

Never changed after it is made, so threads may share it; a newer state is another snapshot. Rows of the generation come
first, those after it follow; rows that are gone from the table are never found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from index.errors import NotFound, shown_id
from index.query import ANYTHING, ClipQuery, Filter, VideoQuery, labels_asked
from index.records import Clip, Provenance, Video
from index.semiology import PAPER, Classes
from index.tables.clip_table import ClipTable
from index.tables.store import Changes
from index.vectors.brute_force import Allowed, Vectors, ranked, scores_of_all
from index.vectors.generation import Generation
from index.vectors.whitening import Whitening

_REMEMBERED_FILTERS = 32
_FEW_ROWS = 4096
"""So few allowed rows are read one by one: sooner done than looking for them in an approximate index."""


@dataclass(frozen=True, slots=True)
class RowSet:
    """Which rows may be found.

    Attributes:
        main: rows of the generation.
        tail: (T,) of the rows after it.
    """

    main: Allowed
    tail: NDArray[np.bool_]

    @property
    def total(self) -> int:
        """How many."""
        return self.main.total + int(self.tail.sum())

    def admits(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows may be found."""
        inside = rows < self.main.count
        admitted = np.empty(len(rows), np.bool_)
        main = rows[inside]
        there = (main < self.main.without.start) | (main >= self.main.without.stop)
        admitted[inside] = there if self.main.mask is None else there & self.main.mask[main]
        admitted[~inside] = self.tail[rows[~inside] - self.main.count]
        return admitted


class Snapshot:
    """One state of a workspace, ready to be searched."""

    def __init__(
        self,
        generation: Generation,
        videos: Mapping[str, Video],
        changes: Changes | None = None,
        classes: Classes = PAPER,
    ) -> None:
        self.generation = generation
        self.videos = videos
        self.classes = classes
        main = generation.clips
        self._tail = changes.added.clips if changes else ClipTable.of(())
        tail_vectors = changes.added.vectors if changes else np.empty((0, generation.vectors.width), np.float32)
        self._tail_vectors = Vectors(tail_vectors)
        self.table_version = changes.added.table_version if changes else generation.manifest.table_version
        self._alive: NDArray[np.bool_] | None = None
        if changes is not None and len(changes.gone):
            self._alive = np.ones(len(main), np.bool_)
            self._alive[changes.gone] = False
        self.video_ids, self.video_of_row = _joined(
            (main.video_ids, main.video_of_row), (self._tail.video_ids, self._tail.video_of_row)
        )
        self.patient_ids, self.patient_of_row = _joined(
            (main.patient_ids, main.patient_of_row), (self._tail.patient_ids, self._tail.patient_of_row)
        )
        self._admitted = lru_cache(_REMEMBERED_FILTERS)(
            _Masks(self._alive, len(main), videos, self.video_ids, self.video_of_row)
        )

    @property
    def encoder_id(self) -> str:
        """Whose embeddings these are."""
        return self.generation.manifest.encoder_id

    @property
    def provenance(self) -> Provenance:
        """What is found here is found in."""
        return Provenance(self.encoder_id, self.name, "", self.table_version)

    @property
    def name(self) -> str:
        """The generation's name."""
        return self.generation.manifest.generation

    @property
    def width(self) -> int:
        """D."""
        return self.generation.vectors.width

    def __len__(self) -> int:
        return len(self.generation.clips) + len(self._tail)

    @cached_property
    def rows_in_generation(self) -> NDArray[np.int64]:
        """Rows of the generation that are still stored, of videos that are."""
        known = np.array([name in self.videos for name in self.video_ids], np.bool_)
        there = known[self.video_of_row[: len(self.generation.clips)]]
        return np.flatnonzero(there if self._alive is None else there & self._alive)

    @cached_property
    def _whitening(self) -> Whitening:
        """That of the generation; where it has too few vectors for one, that of all."""
        built = self.generation.whitening
        return built if built.basis_DK is not None else Whitening.of(self.vectors(np.arange(len(self))))

    def whitened(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, K) of these rows, by what tells vectors apart; a view where they follow each other in the generation."""
        of_generation = self._whitening is self.generation.whitening
        if not len(rows) or rows.max() >= len(self.generation.clips) or not of_generation:
            return self._whitening(self.vectors(rows))
        follow = int(rows[-1]) - int(rows[0]) == len(rows) - 1
        return self.generation.whitened[rows[0] : rows[-1] + 1] if follow else self.generation.whitened[rows]

    def whiten(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, K) of vectors that are not stored, as `whitened` has those that are."""
        return self._whitening(vectors_ND)

    def holds_video(self, video_id: str) -> bool:
        """Whether a video has clips here."""
        return video_id in self.videos and bool(len(self._rows(lambda table: table.rows_of_video(video_id))))

    def clip(self, row: int) -> Clip:
        """What a row is."""
        main = self.generation.clips
        return main[row] if row < len(main) else self._tail[row - len(main)]

    def clips(self, rows: NDArray[np.int64]) -> list[Clip]:
        """What these rows are."""
        start = len(self.generation.clips)
        if not len(rows) or rows.max() < start:
            return self.generation.clips.clips(rows)
        return [self.clip(int(row)) for row in rows]

    def clip_indexes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of each of these rows' clips in its video."""
        start = len(self.generation.clips)
        if not len(rows) or rows.max() < start:
            return self.generation.clips.clip_indexes(rows).astype(np.int64)
        return np.array([self.clip(int(row)).clip_index for row in rows], np.int64)

    def spans(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(2, N) seconds after the video begins, when each of these rows' clips begins and ends."""
        start = len(self.generation.clips)
        if not len(rows) or rows.max() < start:
            return self.generation.clips.spans(rows)
        found = np.empty((2, len(rows)))
        in_main = rows < start
        found[:, in_main] = self.generation.clips.spans(rows[in_main])
        found[:, ~in_main] = self._tail.spans(rows[~in_main] - start)
        return found

    @cached_property
    def overlap(self) -> int:
        """How many of the clips before a clip it overlaps with, at most."""
        return max(self.generation.clips.overlap, self._tail.overlap)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, D) of these rows."""
        start = len(self.generation.clips)
        if not len(rows) or rows.max() < start:
            return self.generation.vectors.rows(rows)
        found = np.empty((len(rows), self.width), np.float32)
        in_main = rows < start
        found[in_main] = self.generation.vectors.rows(rows[in_main])
        found[~in_main] = self._tail_vectors.rows(rows[~in_main] - start)
        return found

    def rows_of(self, item: ClipQuery | VideoQuery) -> NDArray[np.int64]:
        """Rows of a clip, or of all clips of a video in order.

        Raises:
            NotFound: If there is none, or no more.
        """
        if isinstance(item, ClipQuery):
            found = self._rows(lambda table: _one(table.row_of(item.clip_id)))
            what = f"clip {shown_id(item.clip_id)}"
        else:
            found = self._rows(lambda table: table.rows_of_video(item.video_id))
            what = "that video"
        if not len(found):
            raise NotFound(f"{what} is not stored for encoder {self.encoder_id}, or shows no picture: check the id")
        if isinstance(item, VideoQuery) and found[-1] >= len(self.generation.clips):
            found = np.array(sorted(found, key=lambda row: self.clip(int(row)).clip_index), np.int64)
        return found

    def rows_of_clips(self, clip_ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each of these clips.

        Raises:
            NotFound: If one is missing, or has been removed.
        """
        rows = self.rows_in_index(clip_ids)
        for number in np.flatnonzero(rows < 0).tolist():
            rows[number] = self.rows_of(ClipQuery(clip_ids[number]))[0]
        return rows

    def rows_in_index(self, clip_ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each of these clips in the generation; -1 where it is not in it, or no more stored."""
        if not clip_ids:
            return np.empty(0, np.int64)
        rows = self.generation.clips.rows_of(clip_ids)
        if self._alive is not None:
            rows[(rows >= 0) & ~self._alive[rows]] = -1
        return rows

    def rows_of_group(self, row: int, *, patient: bool) -> NDArray[np.int64]:
        """All rows of the video, or of the patient, of a row."""
        if patient:
            name = self.patient_ids[self.patient_of_row[row]]
            return self._rows(lambda table: table.rows_of_patient(name))
        name = self.video_ids[self.video_of_row[row]]
        return self._rows(lambda table: table.rows_of_video(name))

    def rows_of_same_pictures(self, row: int) -> NDArray[np.int64]:
        """Rows of a row's video, and of its patient's other videos that are an overlapping part of the same file."""
        rows = self.rows_of_group(row, patient=False)
        video = self.videos.get(self.clip(row).video_id)
        if video is None:
            return rows
        same = [rows]
        theirs = self.rows_of_group(row, patient=True)
        for number in np.unique(self.video_of_row[theirs]).tolist():
            other = self.videos.get(self.video_ids[number])
            if other is None or other.video_id == video.video_id or other.source_sha256 != video.source_sha256:
                continue
            of_other = self.rows_of(VideoQuery(other.video_id))
            begins, ends = other.start_s + self.spans(of_other)
            overlaps = (begins < video.start_s + video.duration_s) & (ends > video.start_s)
            same.append(of_other[overlaps])
        return np.unique(np.concatenate(same))

    def clips_of(self, item: ClipQuery | VideoQuery) -> tuple[tuple[Clip, ...], NDArray[np.float32]]:
        """A stored clip, or all clips of a video in order, with their vectors (M, D).

        Raises:
            NotFound: If it is not stored.
        """
        rows = self.rows_of(item)
        return tuple(self.clip(int(row)) for row in rows), self.vectors(rows)

    def row_set(
        self, where: Filter = ANYTHING, without_patient: str = "", without: NDArray[np.int64] | None = None
    ) -> RowSet:
        """The rows that may be found.

        Args:
            where: what their videos must be.
            without_patient: whose clips may not be found; empty: no patient's.
            without: further rows that may not.
        """
        main, tail = self.generation.clips, self._tail
        self.classes.check(labels_asked(where), "labels")
        mask, in_mask, tail_mask = self._admitted(where)
        run = main.rows_of_patient(without_patient)
        tail_run = tail.rows_of_patient(without_patient)
        if len(tail_run) or (without is not None and len(without)):
            tail_mask = tail_mask.copy()
            tail_mask[tail_run.start : tail_run.stop] = False
        if without is not None and len(without):
            tail_mask[without[without >= len(main)] - len(main)] = False
            inside = without[without < len(main)]
            inside = inside[(inside < run.start) | (inside >= run.stop)]
            if len(inside) and not len(run) and inside[-1] - inside[0] == len(inside) - 1:
                run = range(int(inside[0]), int(inside[-1]) + 1)
            elif len(inside):
                mask = np.ones(len(main), np.bool_) if mask is None else mask.copy()
                mask[inside] = False
                in_mask = int(mask.sum())
        return RowSet(Allowed(len(main), mask, in_mask, run), tail_mask)

    def nearest(
        self, queries_QD: NDArray[np.float32], k: int, allowed: RowSet
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """The k most similar allowed rows to each query, by the index.

        Returns:
            Similarities (Q, k), decreasing, and rows (Q, k), padded with -inf and -1; None where the index is not the
            way to find them: ask `scores` then.
        """
        main = allowed.main
        found = []
        if main.total:
            if main.mask is not None and main.total <= _FEW_ROWS and k < main.total:
                few = np.flatnonzero(main.as_mask)
                scores = queries_QD @ self.generation.vectors.rows(few).T
                found.append((scores, np.broadcast_to(few, scores.shape)))
            else:
                similarities, rows = self.generation.index.search(queries_QD, min(k, main.total), main)
                if (rows < 0).any():
                    return None
                if not len(self._tail) and rows.shape[1] == k:
                    return similarities, rows
                found.append((similarities, rows))
        if len(self._tail) or not found:
            scores = queries_QD @ self._tail_vectors.all.T
            scores[:, ~allowed.tail] = -np.inf
            rows = np.arange(len(self._tail)) + len(self.generation.clips)
            found.append((scores, np.broadcast_to(rows, scores.shape)))
        return ranked(np.concatenate([s for s, _ in found], axis=1), np.concatenate([r for _, r in found], axis=1), k)

    def nearest_apart(
        self, queries_QD: NDArray[np.float32], k: int, without_patients: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Find nearest rows for many queries at once of which each has a patient of its own to leave out.

        Returns:
            None where one by one is the better way.
        """
        main = self.generation.clips
        if len(main) < k:
            return None
        runs = [main.rows_of_patient(patient) for patient in without_patients]
        mask, in_mask, _ = self._admitted(ANYTHING)
        each = [Allowed(len(main), mask, in_mask, run) for run in runs]
        found = self.generation.index.search_apart(queries_QD, k, each)
        if found is None or not len(self._tail):
            return found
        similarities, rows = found
        scores = queries_QD @ self._tail_vectors.all.T
        for query, patient in enumerate(without_patients):
            run = self._tail.rows_of_patient(patient)
            scores[query, run.start : run.stop] = -np.inf
        tail = np.broadcast_to(np.arange(len(self._tail)) + len(main), scores.shape)
        return ranked(np.concatenate([similarities, scores], axis=1), np.concatenate([rows, tail], axis=1), k)

    def scores(self, queries_QD: NDArray[np.float32], allowed: RowSet) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """How similar every row is to the query it resembles most, and which that is; -inf where it is not allowed."""
        main, which = scores_of_all(queries_QD, self.generation.vectors)
        main[~allowed.main.as_mask] = -np.inf
        if not len(self._tail):
            return main, which
        tail, which_of_tail = scores_of_all(queries_QD, self._tail_vectors)
        tail[~allowed.tail] = -np.inf
        return np.concatenate([main, tail]), np.concatenate([which, which_of_tail])

    def label_of(self, clip: Clip) -> str:
        """Label of a clip's video, or empty."""
        video = self.videos.get(clip.video_id)
        return video.label if video else ""

    def _rows(self, find: Callable[[ClipTable], range]) -> NDArray[np.int64]:
        """Rows of both parts that are not gone."""
        start = len(self.generation.clips)
        in_main = np.array(find(self.generation.clips), np.int64)
        if self._alive is not None:
            in_main = in_main[self._alive[in_main]]
        if not len(self._tail):
            return in_main
        return np.concatenate([in_main, np.array(find(self._tail), np.int64) + start])


@dataclass(frozen=True, slots=True, eq=False)
class _Masks:
    """Rows whose videos a filter admits. Apart from the snapshot, so that none waits for the garbage collector."""

    alive: NDArray[np.bool_] | None
    count: int
    videos: Mapping[str, Video]
    video_ids: list[str]
    video_of_row: NDArray[np.int32]

    def __call__(self, where: Filter) -> tuple[NDArray[np.bool_] | None, int, NDArray[np.bool_]]:
        """Allowed rows: of the generation (None: all of it), how many, and of the rows after it."""
        if where == ANYTHING:
            in_mask = self.count if self.alive is None else int(self.alive.sum())
            return self.alive, in_mask, np.ones(len(self.video_of_row) - self.count, np.bool_)
        admitted = [name in self.videos and where.admits(self.videos[name]) for name in self.video_ids]
        rows = np.array(admitted, np.bool_)[self.video_of_row]
        main = rows[: self.count] if self.alive is None else rows[: self.count] & self.alive
        return main, int(main.sum()), rows[self.count :]


def _joined(
    main: tuple[list[str], NDArray[np.int32]], tail: tuple[list[str], NDArray[np.int32]]
) -> tuple[list[str], NDArray[np.int32]]:
    """Names and each row's number, over both parts."""
    (names, numbers), (tail_names, tail_numbers) = main, tail
    if not tail_names:
        return names, numbers
    known = {name: number for number, name in enumerate(names)}
    new = [name for name in tail_names if name not in known]
    known |= {name: len(names) + number for number, name in enumerate(new)}
    renumbered = np.array([known[name] for name in tail_names], np.int32)[tail_numbers]
    return [*names, *new], np.concatenate([numbers, renumbered])


def _one(row: int | None) -> range:
    return range(0) if row is None else range(row, row + 1)
