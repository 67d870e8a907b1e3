"""Nearest neighbours by inner product, exact or approximate. The only file that knows FAISS.

Three kinds. `flat` compares with every row. The other two look through the cells nearest to the query by codes, and
rank the best few rows again by their vectors, which stay on disk: what they return are exact similarities, and what
they may miss is measured when they are built. `ivf-rabitq` has codes of one bit a value: the smallest and fastest, for
vectors whose neighbours are near. Where patients lie far apart, as patient-level pretraining aims at, the neighbours
that are left without the query's own patient are nearly equally far, and one bit can't tell them apart: `ivf-sq8` has
one byte a value. (On 100,000 clips with near neighbours it and HNSW took 1.5 to 2 times as long for the same recall.
On 21,600 clips of patients far apart HNSW took four times as long as `ivf-sq8` to search, and ten times to build.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedData, InvalidInput
from index.vectors.brute_force import Allowed, Vectors, nearest, ranked

FLAT, ONE_BIT, ONE_BYTE = "flat", "ivf-rabitq", "ivf-sq8"
KINDS = (FLAT, ONE_BIT, ONE_BYTE)
TUNED_FOR = 10
"""Number of hits that `Effort` is tuned to find."""

_CELLS_A_ROOT = 2
"""Cells: this many times the square root of the rows, the nearest power of two; more are slower to build and search."""
_TRAINING_ROWS_A_CELL = 64
_ITERATIONS = 10
_SEED = 1234
_RANKED_AT_ONCE = 32
_MOST_MORE_CANDIDATES = 2000


class Index(Protocol):
    """What a search needs of an index; rows are numbered as they were when it was built."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    def search(
        self, queries_QD: NDArray[np.float32], k: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k most similar rows to each query.

        Args:
            queries_QD: finite, unit length.
            k: number of neighbours.
            allowed: which rows may be found.

        Returns:
            Similarities (Q, k), decreasing, and rows (Q, k); -inf and -1 where no more are found.

        Raises:
            InvalidInput: If the width is wrong, or a value is not finite.
        """
        ...

    def search_apart(
        self, queries_QD: NDArray[np.float32], k: int, allowed: Sequence[Allowed]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """The same for many queries at once that differ in `Allowed.without` only; None where one by one is better."""
        ...


class FlatIndex:
    """Unit vectors, compared with all others: cosine similarity, recall 1.

    Never changed after it is built, so any number of threads may search it.
    """

    kind = FLAT

    def __init__(self, vectors: Vectors) -> None:
        """Index them, copied."""
        self._vectors = vectors
        self._index = faiss.IndexFlatIP(vectors.width)
        self._index.add(np.ascontiguousarray(vectors.all))

    def search(
        self, queries_QD: NDArray[np.float32], k: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search exactly, see `Index.search`."""
        check_queries(queries_QD, self._index.d)
        with _Selector(allowed) as selector:
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
            similarities, rows = self._index.search(np.ascontiguousarray(queries_QD), k, params=parameters)
        similarities[rows < 0] = -np.inf
        return similarities, rows

    def search_apart(
        self, queries_QD: NDArray[np.float32], k: int, allowed: Sequence[Allowed]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Search exactly, see `Index.search_apart`.

        By matrix products: FAISS, asked for more and cut, takes 1.1 to 3 times as long (`benchmarks/search_kinds.py`).
        """
        check_queries(queries_QD, self._index.d)
        return nearest(queries_QD, self._vectors, k, allowed)


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard an approximate index looks.

    Attributes:
        cells: how many cells of vectors are looked through.
        candidates: how many rows are ranked exactly for each hit asked for.
    """

    cells: int
    candidates: int


@dataclass(frozen=True, slots=True)
class _Codes:
    """What FAISS calls an index of cells and codes of one kind."""

    factory: str
    index: type
    parameters: type


_CODES = {
    ONE_BIT: _Codes("RaBitQ", faiss.IndexIVFRaBitQ, faiss.IVFRaBitQSearchParameters),
    ONE_BYTE: _Codes("SQ8", faiss.IndexIVFScalarQuantizer, faiss.SearchParametersIVF),
}


class IvfIndex:
    """Cells of codes, and the exact vectors of the best candidates. Never changed after it is built."""

    def __init__(self, kind: str, index: Any, vectors: Vectors, effort: Effort) -> None:  # noqa: ANN401
        self._kind, self._parameters = kind, _CODES[kind].parameters
        self._index = index
        self._vectors = vectors
        self.effort = effort

    @property
    def kind(self) -> str:
        """Name of the kind, see `Index.kind`."""
        return self._kind

    @classmethod
    def build(cls, kind: str, vectors: Vectors) -> IvfIndex:
        """Cluster and encode; look through everything until `effort` is tuned."""
        cells = min(2 ** round(np.log2(_CELLS_A_ROOT * np.sqrt(len(vectors)))), len(vectors))
        factory = f"IVF{cells},{_CODES[kind].factory}"
        index: Any = faiss.index_factory(vectors.width, factory, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.seed = _ITERATIONS, _TRAINING_ROWS_A_CELL, _SEED
        index.cp.min_points_per_centroid = 1  # it would print a warning, not do otherwise
        chosen = np.random.default_rng(_SEED).permutation(len(vectors))[: cells * _TRAINING_ROWS_A_CELL]
        index.train(vectors.rows(np.sort(chosen)))
        step = 1 << 16  # rows at once: what is mapped need not be in memory as a whole
        for start in range(0, len(vectors), step):
            index.add(np.ascontiguousarray(vectors.all[start : start + step]))
        return cls(kind, index, vectors, Effort(cells, 4))

    @classmethod
    def read(cls, kind: str, path: Path, vectors: Vectors, effort: Effort) -> IvfIndex:
        """Load a file whose digest has been checked: FAISS must not read bytes it can't trust.

        Raises:
            DamagedData: If it is another kind of index, or of other vectors.
        """
        index = faiss.read_index(str(path))
        if not isinstance(index, _CODES[kind].index):
            raise DamagedData(f"expected an index of kind {kind}, got {type(index).__name__}")
        if (index.ntotal, index.d) != (len(vectors), vectors.width):
            raise DamagedData(f"an index of {index.ntotal} x {index.d} for {len(vectors)} x {vectors.width} vectors")
        return cls(kind, index, vectors, effort)

    def write(self, path: Path) -> None:
        """Write the index and read it back. FAISS's own writer reports success on a full disk."""
        with path.open("wb") as stream:
            stream.write(faiss.serialize_index(self._index).data)
        if faiss.read_index(str(path)).ntotal != self._index.ntotal:
            raise DamagedData("the index file is not what was written")

    @property
    def cells(self) -> int:
        """How many there are."""
        return int(self._index.nlist)

    @property
    def rows_a_cell(self) -> float:
        """Average number of rows in a cell."""
        return len(self._vectors) / self.cells

    def search(
        self, queries_QD: NDArray[np.float32], k: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search, see `Index.search`; similarities are exact, rows may be missed."""
        check_queries(queries_QD, self._vectors.width)
        candidates = min(max(k, TUNED_FOR) * self.effort.candidates, len(self._vectors))
        # Where few rows may be found, or many are asked for, they lie in more cells.
        cells = min(int(self._cells_for(k) * allowed.count / max(allowed.total, 1)), self.cells)
        with _Selector(allowed) as selector:
            parameters = self._parameters(sel=selector, nprobe=cells)
            _, rows = self._index.search(np.ascontiguousarray(queries_QD), candidates, params=parameters)
        return self._ranked(queries_QD, rows, k)

    def search_apart(
        self, queries_QD: NDArray[np.float32], k: int, allowed: Sequence[Allowed]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """Search, see `Index.search_apart`: with a candidate more for each row left out, in one call on every core."""
        check_queries(queries_QD, self._vectors.width)
        runs = _runs(allowed)
        widest = int((runs[:, 1] - runs[:, 0]).max(initial=0))
        candidates = max(k, TUNED_FOR) * self.effort.candidates
        if widest > _MOST_MORE_CANDIDATES or candidates + widest > len(self._vectors):
            return None
        with _Selector(replace(allowed[0], without=range(0))) as selector:
            parameters = self._parameters(sel=selector, nprobe=min(int(self._cells_for(k)), self.cells))
            _, rows = self._index.search(np.ascontiguousarray(queries_QD), candidates + widest, params=parameters)
        rows[(rows >= runs[:, :1]) & (rows < runs[:, 1:])] = -1
        first = np.argsort(rows < 0, axis=1, kind="stable")[:, :candidates]
        similarities, found = self._ranked(queries_QD, np.take_along_axis(rows, first, axis=1), k)
        return None if (found < 0).any() else (similarities, found)

    def _cells_for(self, k: int) -> float:
        """How many to look through for k hits."""
        return float(self.effort.cells * np.sqrt(max(k / TUNED_FOR, 1)))

    def _ranked(
        self, queries_QD: NDArray[np.float32], rows_QR: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best of each query's candidates, by their vectors; a row of -1 is none."""
        scores = np.empty(rows_QR.shape, np.float32)
        for start in range(0, len(rows_QR), _RANKED_AT_ONCE):  # each product apart would give up the interpreter's lock
            part = np.maximum(rows_QR[start : start + _RANKED_AT_ONCE], 0)
            vectors_QRD = self._vectors.rows(part.ravel()).reshape(*part.shape, -1)
            np.matmul(
                vectors_QRD,
                queries_QD[start : start + len(part), :, None],
                out=scores[start : start + len(part), :, None],
            )
        scores[rows_QR < 0] = -np.inf
        return ranked(scores, rows_QR, k)


def _runs(allowed: Sequence[Allowed]) -> NDArray[np.int64]:
    """(Q, 2) where the rows that each query may not find begin and end."""
    return np.array([(one.without.start, one.without.stop) for one in allowed], np.int64).reshape(-1, 2)


class _Selector:
    """FAISS's form of `Allowed`, with what it points to kept alive."""

    def __init__(self, allowed: Allowed) -> None:
        self._kept: list[object] = []
        self._selector: Any = None
        if len(allowed.without):
            run = self._keep(faiss.IDSelectorRange(allowed.without.start, allowed.without.stop))
            self._selector = self._keep(faiss.IDSelectorNot(run))
        if allowed.mask is not None:
            bits = self._keep(np.packbits(allowed.mask, bitorder="little"))
            mask = self._keep(faiss.IDSelectorBitmap(allowed.count, faiss.swig_ptr(bits)))
            both = self._selector
            self._selector = mask if both is None else self._keep(faiss.IDSelectorAnd(mask, both))

    def __enter__(self) -> object:
        return self._selector

    def __exit__(self, *_: object) -> None:
        self._kept.clear()

    def _keep(self, thing: Any) -> Any:  # noqa: ANN401  SWIG has no types
        self._kept.append(thing)
        return thing


def check_queries(queries_QD: NDArray[np.float32], width: int) -> None:
    """Refuse what FAISS would answer with nonsense.

    Raises:
        InvalidInput: If the width is wrong, or a value is not finite.
    """
    if queries_QD.ndim != 2 or queries_QD.shape[1] != width:
        raise InvalidInput(f"expected vectors (Q, {width}), got {queries_QD.shape}")
    if not np.isfinite(queries_QD).all():
        raise InvalidInput("expected finite vectors, got NaN or infinity")
