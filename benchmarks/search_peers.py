"""The vector databases that could have been chosen instead, each in its embedded form, behind one small interface.

Every peer searches with the query's own patient excluded: by its own filter where it has a fast one, else by asking for
as many more hits as the patient has clips. `efforts` are its settings from cheap to dear.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import CLIPS_OF_A_PATIENT, WIDTH
from numpy.typing import NDArray

from index.processors import usable_cores

K = 10
_MANY = K + CLIPS_OF_A_PATIENT
Rows = NDArray[np.int64]


class Usearch:
    """usearch: HNSW over fp16; no filter, so it is asked for more."""

    efforts: Sequence[int] = (_MANY, 300, 450, 700, 1000, 1500, 2500)

    def __init__(self, _: Path, vectors: NDArray[np.float32], patients: Rows) -> None:
        from usearch.index import Index

        self._index = Index(ndim=WIDTH, metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        self._index.add(np.arange(len(vectors)), vectors, threads=usable_cores())
        self._patients = patients

    def search(self, queries: NDArray[np.float32], rows: Rows, effort: int) -> list[Rows]:
        """Rows of the nearest clips of other patients."""
        self._index.expansion_search = effort
        found = self._index.search(queries if len(queries) > 1 else queries[0], _MANY, threads=usable_cores())
        return [
            _others(np.asarray(keys, np.int64), self._patients, row)
            for keys, row in zip(np.atleast_2d(found.keys), rows, strict=True)
        ]


class Hnswlib:
    """hnswlib: HNSW over fp32; its filter calls Python a row, so it is asked for more."""

    efforts: Sequence[int] = (_MANY, 300, 450, 700, 1000, 1500, 2500)

    def __init__(self, _: Path, vectors: NDArray[np.float32], patients: Rows) -> None:
        import hnswlib

        self._index = hnswlib.Index("ip", WIDTH)
        self._index.init_index(len(vectors), M=16, ef_construction=128)
        self._index.add_items(vectors, num_threads=usable_cores())
        self._patients = patients

    def search(self, queries: NDArray[np.float32], rows: Rows, effort: int) -> list[Rows]:
        """Rows of the nearest clips of other patients."""
        self._index.set_ef(effort)
        found, _ = self._index.knn_query(queries, _MANY, num_threads=usable_cores())
        return [_others(keys.astype(np.int64), self._patients, row) for keys, row in zip(found, rows, strict=True)]


class Qdrant:
    """Qdrant's embedded form: HNSW with an indexed filter."""

    efforts: Sequence[int] = (32, 64, 128, 256, 512, 1024)

    def __init__(self, folder: Path, vectors: NDArray[np.float32], patients: Rows) -> None:
        import qdrant_edge as q

        self._q = q
        config = q.EdgeConfig(vectors=q.EdgeVectorParams(size=WIDTH, distance=q.Distance.Dot))
        folder.mkdir()
        self._shard = q.EdgeShard.create(str(folder), config)
        self._shard.update(q.UpdateOperation.create_field_index("patient", q.PayloadSchemaType.Integer))
        for start in range(0, len(vectors), 2000):
            stop = min(start + 2000, len(vectors))
            points = [
                q.Point(row, vectors[row].tolist(), {"patient": int(patients[row])}) for row in range(start, stop)
            ]
            self._shard.update(q.UpdateOperation.upsert_points(points))
        self._shard.optimize()
        self._patients = patients

    def search(self, queries: NDArray[np.float32], rows: Rows, effort: int) -> list[Rows]:
        """Rows of the nearest clips of other patients."""
        requests = [self._request(query, row, effort) for query, row in zip(queries, rows, strict=True)]
        answers = [self._shard.query(request) for request in requests]
        return [np.array([point.id for point in answer], np.int64) for answer in answers]

    def _request(self, query: NDArray[np.float32], row: int, effort: int) -> Any:  # noqa: ANN401
        q = self._q
        own = q.FieldCondition(key="patient", match=q.MatchValue(int(self._patients[row])))
        return q.QueryRequest(
            limit=K,
            query=q.Query.Nearest(query.tolist()),
            filter=q.Filter(must_not=[own]),
            params=q.SearchParams(hnsw_ef=effort),
        )


class Lance:
    """LanceDB's own index: IVF with product quantisation, filtered before the search, refined by exact distances."""

    efforts: Sequence[int] = (8, 16, 32, 64, 128)

    def __init__(self, folder: Path, vectors: NDArray[np.float32], patients: Rows) -> None:
        import lancedb
        import pyarrow as pa

        flat = pa.array(vectors.ravel())
        rows = pa.table(
            {
                "row": np.arange(len(vectors)),
                "patient": patients,
                "vector": pa.FixedSizeListArray.from_arrays(flat, WIDTH),
            }
        )
        self._table = lancedb.connect(str(folder)).create_table("clips", rows)
        self._table.create_index("vector", config=lancedb.index.IvfPq(distance_type="dot", num_sub_vectors=96))
        self._patients = patients

    def search(self, queries: NDArray[np.float32], rows: Rows, effort: int) -> list[Rows]:
        """Rows of the nearest clips of other patients."""
        found = []
        for query, row in zip(queries, rows, strict=True):
            asked = self._table.search(query).where(f"patient != {int(self._patients[row])}", prefilter=True)
            answer = (
                asked.distance_type("dot")
                .nprobes(effort)
                .refine_factor(10)
                .select(["row", "_distance"])
                .limit(K)
                .to_arrow()
            )
            found.append(answer.column("row").to_numpy())
        return found


class Chroma:
    """Chroma: HNSW with its metadata filter."""

    efforts: Sequence[int] = (100, 200, 400, 800)

    def __init__(self, folder: Path, vectors: NDArray[np.float32], patients: Rows) -> None:
        import chromadb

        client = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
        settings = {"hnsw": {"space": "ip", "ef_search": self.efforts[1]}}
        self._collection = client.create_collection("clips", configuration=settings, embedding_function=None)
        for start in range(0, len(vectors), 5000):
            rows = range(start, min(start + 5000, len(vectors)))
            self._collection.add(
                ids=[str(row) for row in rows],
                embeddings=vectors[start : rows.stop],
                metadatas=[{"patient": int(patients[row])} for row in rows],
            )
        self._patients = patients
        self._effort = self.efforts[1]

    def search(self, queries: NDArray[np.float32], rows: Rows, effort: int) -> list[Rows]:
        """Rows of the nearest clips of other patients."""
        if effort != self._effort:
            self._collection.modify(configuration={"hnsw": {"ef_search": effort}})
            self._effort = effort
        found = []
        for query, row in zip(queries, rows, strict=True):
            where = {"patient": {"$ne": int(self._patients[row])}}
            answer = self._collection.query(query_embeddings=[query], n_results=K, where=where, include=[])
            found.append(np.array([int(one) for one in answer["ids"][0]], np.int64))
        return found


class Milvus:
    """Milvus Lite: what it has is an exact or cell-wise search with a filter."""

    efforts: Sequence[int] = (16, 32, 64, 128)

    def __init__(self, folder: Path, vectors: NDArray[np.float32], patients: Rows) -> None:
        from pymilvus import DataType, MilvusClient

        folder.mkdir()
        self._client = MilvusClient(str(folder / "clips.db"))
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("patient", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=WIDTH)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": 512})
        self._client.create_collection("clips", schema=schema, index_params=index)
        for start in range(0, len(vectors), 2000):
            rows = range(start, min(start + 2000, len(vectors)))
            self._client.insert(
                "clips", [{"row": r, "patient": int(patients[r]), "vector": vectors[r].tolist()} for r in rows]
            )
        self._patients = patients

    def search(self, queries: NDArray[np.float32], rows: Rows, effort: int) -> list[Rows]:
        """Rows of the nearest clips of other patients."""
        found = []
        for query, row in zip(queries, rows, strict=True):
            answer = self._client.search(
                "clips",
                data=[query.tolist()],
                limit=K,
                filter=f"patient != {int(self._patients[row])}",
                search_params={"metric_type": "IP", "params": {"nprobe": effort}},
            )
            found.append(np.array([hit["row"] for hit in answer[0]], np.int64))
        return found


PEERS = {
    "usearch": Usearch,
    "hnswlib": Hnswlib,
    "qdrant-edge": Qdrant,
    "lancedb": Lance,
    "chroma": Chroma,
    "milvus-lite": Milvus,
}


def _others(found: Rows, patients: Rows, row: int) -> Rows:
    """The first K of them that are of other patients."""
    return found[patients[found] != patients[row]][:K]
