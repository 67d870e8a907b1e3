"""Exact nearest neighbours by inner product. The only file that knows FAISS."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import DamagedData, InvalidInput


class FlatIndex:
    """Unit vectors, compared with all others: cosine similarity, recall 1.

    Never changed after it is built, so any number of threads may search it.
    """

    kind = "flat"

    def __init__(self, index: faiss.IndexFlatIP) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors_ND: NDArray[np.float32]) -> FlatIndex:
        """Index (N, D) float32 unit vectors, copied; row n is id n."""
        index = faiss.IndexFlatIP(vectors_ND.shape[1])
        index.add(np.ascontiguousarray(vectors_ND, np.float32))
        return cls(index)

    @classmethod
    def read(cls, path: Path) -> FlatIndex:
        """Load a file whose digest has been checked: FAISS must not read bytes it can't trust."""
        index = faiss.read_index(str(path))
        if not isinstance(index, faiss.IndexFlatIP):
            raise DamagedData(f"expected a flat inner-product index, got {type(index).__name__}")
        return cls(index)

    def write(self, path: Path) -> None:
        """Write the index and read it back: FAISS reports success on a full disk."""
        faiss.write_index(self._index, str(path))
        if faiss.read_index(str(path)).ntotal != len(self):
            raise DamagedData("the index file could not be read back: is the disk full?")

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        """D."""
        return int(self._index.d)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(N, D), a view that must not be written to."""
        view: NDArray[np.float32] = faiss.rev_swig_ptr(self._index.get_xb(), len(self) * self.width)
        view = view.reshape(len(self), self.width)
        view.flags.writeable = False
        return view

    def search(
        self, queries_QD: NDArray[np.float32], k: int, allowed_N: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k most similar rows to each query.

        Args:
            queries_QD: finite, unit length.
            k: how many, at most the number of allowed rows.
            allowed_N: which rows may be found; all by default.

        Returns:
            Similarities (Q, k), decreasing, and rows (Q, k).

        Raises:
            InvalidInput: a wrong width, or values that are not finite.
        """
        if queries_QD.ndim != 2 or queries_QD.shape[1] != self.width:
            raise InvalidInput(f"expected vectors (Q, {self.width}), got {queries_QD.shape}")
        if not np.isfinite(queries_QD).all():
            raise InvalidInput("expected finite vectors, got NaN or infinity")
        parameters = None
        if allowed_N is not None:
            bitmap = np.packbits(allowed_N, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(allowed_N), faiss.swig_ptr(bitmap))
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        similarities, rows = self._index.search(np.ascontiguousarray(queries_QD), k, params=parameters)
        return similarities, rows
