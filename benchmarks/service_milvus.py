"""Milvus Lite's filtered queries a second, for `service.py`; run by an interpreter that has milvus-lite and pymilvus.

The same embeddings, the same question: the 10 nearest clips of other patients. Every index that it takes is tried with
the least effort that finds .95 of the truth, and with several numbers of threads; the best counts. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from cohorts import WIDTH, embeddings, patients

K, QUERIES, RECALL = 10, 200, 0.95


def main() -> None:
    """Fill it, tune it, time it."""
    from pymilvus import DataType, MilvusClient

    clips, seconds = int(sys.argv[1]), float(sys.argv[2])
    vectors, owner = embeddings(clips), patients(clips)
    rows = np.random.default_rng(1).choice(clips, QUERIES, replace=False)
    scores = vectors[rows] @ vectors.T
    scores[owner[rows][:, None] == owner[None]] = -1
    truth = [set(one) for one in np.argpartition(-scores, K, axis=1)[:, :K].tolist()]
    best = {"a_second": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        client = MilvusClient(str(Path(folder) / "milvus.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("patient", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=WIDTH)
        for kind, build, efforts in (
            ("FLAT", {}, [{}]),
            ("IVF_FLAT", {"nlist": 316}, [{"nprobe": n} for n in (4, 8, 16, 32, 64)]),
            ("HNSW", {"M": 16, "efConstruction": 128}, [{"ef": n} for n in (32, 64, 128, 256)]),
        ):
            try:
                client.create_collection(kind, schema=schema)
                for start in range(0, clips, 2000):
                    stop = min(start + 2000, clips)
                    client.insert(
                        kind,
                        [
                            {"id": n, "patient": int(owner[n]), "vector": vectors[n].tolist()}
                            for n in range(start, stop)
                        ],
                    )
                index = client.prepare_index_params()
                index.add_index("vector", index_type=kind, metric_type="IP", params=build)
                client.create_index(kind, index)
                client.load_collection(kind)
            except Exception as error:  # noqa: BLE001  an index that it does not know
                sys.stderr.write(f"{kind}: {type(error).__name__}\n")
                continue

            def ask(number: int, effort: dict, kind: str = kind) -> set[int]:
                row = int(rows[number % QUERIES])
                found = client.search(
                    kind,
                    [vectors[row].tolist()],
                    filter=f"patient != {int(owner[row])}",
                    limit=K,
                    search_params={"metric_type": "IP", "params": effort},
                )
                return {hit["id"] for hit in found[0]}

            for effort in efforts:
                found = [ask(number, effort) for number in range(100)]
                recall = float(np.mean([len(one & true) / K for one, true in zip(found, truth, strict=False)]))
                if recall < RECALL:
                    continue
                for threads in (1, 4, 16):
                    rate = timed(lambda number, effort=effort: ask(number, effort), threads, seconds)
                    sys.stderr.write(f"{kind} {effort} {threads} threads: {rate:.1f} queries/s, recall {recall:.3f}\n")
                    if rate > best["a_second"]:
                        best = {"a_second": rate, "index": kind, "effort": effort, "threads": threads, "recall": recall}
                break
            client.drop_collection(kind)
    print(json.dumps(best))


def timed(ask, threads: int, seconds: float) -> float:  # noqa: ANN001
    """Queries a second of a number of threads."""
    until, counts = time.monotonic() + seconds, [0] * threads

    def work(thread: int) -> None:
        number = thread * 17
        while time.monotonic() < until:
            ask(number)
            number += 1
            counts[thread] += 1

    started = time.monotonic()
    working = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for one in working:
        one.start()
    for one in working:
        one.join()
    return sum(counts) / (time.monotonic() - started)


if __name__ == "__main__":
    main()
