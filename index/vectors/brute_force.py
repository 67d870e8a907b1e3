"""Exact nearest neighbours of many queries at once, by matrix products; and vectors that stay on disk.

What the approximate index is measured against, what its candidates are ranked with, and the way to search rows that it
can't answer for: few allowed rows, or rows newer than it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from index.errors import DamagedData

_BLOCK_ROWS = 8192
_SAMPLE_ROWS = 4096
_SMALL_BYTES = 1 << 29
_MANY_ROWS = 10_000
"""Bytes that are mapped nevertheless: they are for building."""


@dataclass(frozen=True)
class Allowed:
    """Which rows may be found.

    Attributes:
        count: how many rows there are.
        mask: (N,) which of them may; all where it is None.
        in_mask: how many those are.
        without: a run of rows that may not: those of the query's own patient.
    """

    count: int
    mask: NDArray[np.bool_] | None = None
    in_mask: int = 0
    without: range = range(0)

    @cached_property
    def total(self) -> int:
        """How many rows may be found."""
        if self.mask is None:
            return self.count - len(self.without)
        return self.in_mask - int(self.mask[self._run].sum())

    @cached_property
    def as_mask(self) -> NDArray[np.bool_]:
        """(N,) all of it in one mask; not to be written to."""
        mask = np.ones(self.count, np.bool_) if self.mask is None else self.mask.copy()
        mask[self._run] = False
        return mask

    @property
    def _run(self) -> slice:
        return slice(self.without.start, self.without.stop)


class Vectors:
    """(N, D) float32 vectors in memory or in a file; never changed.

    Single rows of a large file are read, not mapped: mapping one brings its neighbours along, takes longer, and fills
    this process's memory. Those of a small one are mapped, which is faster once they all are.
    """

    def __init__(self, array_ND: NDArray[np.float32], file: _File | None = None) -> None:
        self._array = array_ND
        self._file = file

    @classmethod
    def map(cls, path: Path) -> Vectors:
        """Map an .npy file whose digest has been checked.

        Raises:
            DamagedData: If it holds no float32 matrix.
        """
        with path.open("rb") as stream:
            try:
                if npy.read_magic(stream) != (1, 0):
                    raise ValueError
                shape, fortran, dtype = npy.read_array_header_1_0(stream)
            except ValueError:
                raise DamagedData("the vectors of an index are no NumPy file") from None
            offset = stream.tell()
            if fortran or dtype != np.float32 or len(shape) != 2:
                raise DamagedData(f"expected a matrix of float32 vectors, got {dtype} {shape}")
            mapping = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
            large = len(mapping) > _SMALL_BYTES
            file = _File(os.dup(stream.fileno()), offset) if large else None
        size = shape[0] * shape[1]
        if len(mapping) < offset + 4 * size:
            raise DamagedData("the vectors of an index are cut short")
        return cls(np.frombuffer(mapping, np.float32, size, offset).reshape(shape), file)

    @staticmethod
    def write(path: Path, array_ND: NDArray[np.float32]) -> None:
        """Write an .npy file; unlike `numpy.save`, which does not say so, with the system's word for a full disk."""
        array = np.ascontiguousarray(array_ND, np.float32)
        with path.open("wb") as stream:
            npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(array))
            stream.write(array.data)

    def __len__(self) -> int:
        return len(self._array)

    @property
    def width(self) -> int:
        """D."""
        return int(self._array.shape[1])

    @property
    def all(self) -> NDArray[np.float32]:
        """(N, D), a view that can't be written to."""
        view = self._array.view()
        view.flags.writeable = False
        return view

    def rows(self, rows: NDArray[np.int64] | Sequence[int] | range) -> NDArray[np.float32]:
        """(n, D) of these rows, a copy."""
        if isinstance(rows, range):
            return self._array[rows.start : rows.stop].copy()
        if self._file is not None and len(rows) < _MANY_ROWS:
            return self._file.rows(np.asarray(rows, np.int64), self._array.shape)
        taken: NDArray[np.float32] = self._array[np.asarray(rows, np.int64)]
        return taken


class _File:
    """An open file of rows, closed with the last that holds it."""

    def __init__(self, descriptor: int, offset: int) -> None:
        self._descriptor = descriptor
        self._offset = offset

    def __del__(self) -> None:
        os.close(self._descriptor)

    def rows(self, rows_n: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float32]:
        """(n, D) of these rows of a matrix of this shape.

        Raises:
            DamagedData: If the file has been cut.
        """
        if len(rows_n) and not 0 <= rows_n.min() <= rows_n.max() < shape[0]:
            raise IndexError(f"expected rows of 0 to {shape[0] - 1}")
        size = 4 * shape[1]
        parts = [os.pread(self._descriptor, size, self._offset + size * row) for row in rows_n.tolist()]
        whole = b"".join(parts)
        if len(whole) != size * len(rows_n):
            raise DamagedData("the vectors of an index were cut short while they were in use")
        return np.frombuffer(whole, np.float32).reshape(len(rows_n), shape[1])


def nearest(
    queries_QD: NDArray[np.float32], vectors: Vectors, k: int, allowed: Sequence[Allowed]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k most similar allowed rows to each query, by comparing it with all of them.

    Args:
        queries_QD: unit length.
        vectors: N of them, unit length.
        k: number of neighbours.
        allowed: for each query, or one for all.

    Returns:
        Similarities (Q, k), decreasing, of equal ones the lower row first, and rows (Q, k); -inf and -1 where there
        are fewer allowed rows.
    """
    each = list(allowed) if len(allowed) == len(queries_QD) else list(allowed) * len(queries_QD)
    # The k-th best of a sample bounds the k-th best of all from below: only few rows beat it, and all of the answer.
    step = max(len(vectors) // _SAMPLE_ROWS, 1)
    sample = np.ascontiguousarray(vectors.all[::step])
    scores = queries_QD @ sample.T
    for query, one in enumerate(each):
        _forbid(scores[query], one, slice(0, len(vectors), step))
    bound = np.full((len(each), 1), -np.inf, np.float32)
    if scores.shape[1] >= k:
        bound = np.partition(scores, -k, axis=1)[:, -k, None]
    bound = np.nextafter(bound, np.float32(-np.inf)) - np.float32(1e-6)  # the same product may round otherwise
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    scores = np.empty((len(each), min(_BLOCK_ROWS, len(vectors))), np.float32)  # one for all blocks: new memory is slow
    beats = np.empty(scores.shape, np.bool_)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors.all[start : start + _BLOCK_ROWS]
        if len(block) < scores.shape[1]:
            scores, beats = np.empty((len(each), len(block)), np.float32), np.empty((len(each), len(block)), np.bool_)
        np.matmul(queries_QD, block.T, out=scores)
        for query, one in enumerate(each):
            _forbid(scores[query], one, slice(start, start + len(block)))
        np.greater(scores, bound, out=beats)
        flat = np.flatnonzero(beats)  # one long row is looked through several times as fast as a table
        which, column = np.divmod(flat, len(block))
        found.append((which, column + start, scores.ravel()[flat]))
    which, row, score = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((row, -score, which))
    which, row, score = which[order], row[order], score[order]
    place = np.arange(len(which)) - np.searchsorted(which, which)
    kept = (place < k) & (score > -np.inf)
    similarities = np.full((len(each), k), -np.inf, np.float32)
    rows = np.full((len(each), k), -1, np.int64)
    similarities[which[kept], place[kept]], rows[which[kept], place[kept]] = score[kept], row[kept]
    return similarities, rows


def _forbid(scores_R: NDArray[np.float32], allowed: Allowed, rows: slice) -> None:
    """Take the rows that may not be found out of one query's scores for `rows`, a slice with a step."""
    step = rows.step or 1
    if allowed.mask is not None:
        scores_R[~allowed.mask[rows]] = -np.inf
    first = max(-(-(allowed.without.start - rows.start) // step), 0)
    last = max(-(-(allowed.without.stop - rows.start) // step), 0)
    scores_R[first:last] = -np.inf


def scores_of_all(queries_QD: NDArray[np.float32], vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """How similar each row is to the query that it resembles most.

    Returns:
        Similarities (N,), and which query (N,).
    """
    best = np.empty(len(vectors), np.float32)
    which = np.zeros(len(vectors), np.int64)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        scores = vectors.all[start : start + _BLOCK_ROWS] @ queries_QD.T
        stop = start + len(scores)
        if len(queries_QD) > 1:
            which[start:stop] = scores.argmax(axis=1)
        best[start:stop] = scores.max(axis=1)
    return best, which


def ranked(
    scores_QR: NDArray[np.float32], rows_QR: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best of each query's rows, decreasing, of equal ones the lower row first; padded with -inf and -1.

    Args:
        scores_QR: -inf where there is no row.
        rows_QR: which rows.
        k: number of neighbours.
    """
    order = np.lexsort((rows_QR, -scores_QR))[:, :k]
    similarities = np.full((len(scores_QR), k), -np.inf, np.float32)
    rows = np.full((len(scores_QR), k), -1, np.int64)
    query = np.arange(len(scores_QR))[:, None]
    similarities[:, : order.shape[1]], rows[:, : order.shape[1]] = scores_QR[query, order], rows_QR[query, order]
    rows[np.isneginf(similarities)] = -1
    return similarities, rows
