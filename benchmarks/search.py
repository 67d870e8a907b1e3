"""Searching a large cohort: ours against embedded vector databases, in one run, at equal recall.

    .venv/bin/python benchmarks/search.py [--clips 100000] [--peers FOLDER] [--only NAME ...]

Each query is a stored clip and must find the 10 nearest clips of other patients. Every database runs in a process of
its own, one after the other; it is set to the least effort that finds .95 of the truth on some queries and is timed on
others. Ours is the whole search of a service, from a clip's id to clips with labels; theirs gives row numbers. FOLDER
holds peers installed with `pip install --target`. One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cohorts import CLIPS_OF_A_PATIENT, CLIPS_OF_A_VIDEO, WIDTH, embeddings, patients
from figures import figure, say
from search_peers import PEERS, K

from index.processors import usable_cores

RECALL, TO_TUNE, TO_MEASURE, IN_BATCH = 0.95, 100, 300, 1000


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--clips", type=int, default=100_000)
    options.add_argument("--peers", type=Path)
    options.add_argument("--only", nargs="*", default=["ours", *PEERS], help="which of them take part")
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    if chosen.child and chosen.child[0] == "build":
        build(Path(chosen.child[1]))
        return
    if chosen.child:
        child(chosen.child[0], Path(chosen.child[1]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        say(f"{usable_cores()} cores; {chosen.clips} clips of {WIDTH} values")
        prepare(folder, chosen.clips)
        peers = ["--peers", str(chosen.peers)] if chosen.peers else []
        found = {}
        for name in chosen.only:
            done = subprocess.run(
                [sys.executable, __file__, *peers, "--child", name, str(folder)],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                env={**os.environ, "RUST_LOG": "error"},
            )
            if done.returncode:
                say(f"{name} takes no part")
                continue
            found[name] = json.loads(done.stdout.splitlines()[-1])
            say(f"{name}: {found[name]}")
        report(chosen.clips, found)


def prepare(folder: Path, clips: int) -> None:
    """Vectors, queries and the truth, for all to read."""
    from index.vectors.brute_force import Allowed, Vectors, nearest

    vectors, owner = embeddings(clips), patients(clips)
    np.save(folder / "vectors.npy", vectors)
    rows = np.random.default_rng(1).choice(clips, TO_TUNE + TO_MEASURE + IN_BATCH, replace=False)
    asked = rows[: TO_TUNE + TO_MEASURE]
    allowed = [Allowed(clips, without=_run(int(owner[row]), clips)) for row in asked]
    exact, flops = 0.0, 2.0 * len(asked) * clips * WIDTH
    for _ in range(3):
        started = time.perf_counter()
        truth, _ = nearest(vectors[asked], Vectors(vectors), K, allowed)
        exact = max(exact, flops / (time.perf_counter() - started) / 1e9)
    np.save(folder / "queries.npy", rows)
    np.save(folder / "least.npy", truth[:, -1])
    peak = _rate(vectors)
    figure("exact search of 400 queries at once", exact, "GFLOP/s", "matrix products", peak, exact / peak, 0.8)


def _run(patient: int, clips: int) -> range:
    return range(patient * CLIPS_OF_A_PATIENT, min((patient + 1) * CLIPS_OF_A_PATIENT, clips))


def _rate(vectors: Any) -> float:  # noqa: ANN401
    """GFLOP/s of the same products with nothing looked for in them; the best of a few seconds."""
    block, queries, best = vectors[:8192], vectors[:400], 0.0
    until = time.perf_counter() + 3
    while time.perf_counter() < until:
        started = time.perf_counter()
        for _ in range(8):
            queries @ block.T
        best = max(best, 8 * 2.0 * len(queries) * len(block) * WIDTH / (time.perf_counter() - started) / 1e9)
    return best


def child(name: str, folder: Path) -> None:
    """Build one of them, tune it, time it."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r" if name == "ours" else None)
    rows, least = np.load(folder / "queries.npy"), np.load(folder / "least.npy")
    owner = patients(len(vectors))
    started = time.perf_counter()
    if name == "ours":
        engine: Any = Ours(folder / name)
    else:
        engine = PEERS[name](folder / name, np.ascontiguousarray(vectors), owner)
    built_s = time.perf_counter() - started

    def recall(wanted: Any, effort: int, seconds: list[float]) -> float:  # noqa: ANN401
        shares = []
        for number in wanted:
            row = rows[number : number + 1]
            query = np.ascontiguousarray(vectors[row])
            began = time.perf_counter()
            (found,) = engine.search(query, row, effort)
            seconds.append(time.perf_counter() - began)
            shares.append(float((vectors[found] @ query[0] >= least[number] - 1e-5).sum()) / K)
        return float(np.mean(shares))

    for effort in engine.efforts:
        reached = recall(range(TO_TUNE), effort, [])
        if reached >= RECALL:
            break
    seconds: list[float] = []
    reached = recall(range(TO_TUNE, TO_TUNE + TO_MEASURE), effort, seconds)
    batch = rows[TO_TUNE + TO_MEASURE :]
    queries = np.ascontiguousarray(vectors[batch])
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        _in_batch(engine, name, queries, batch, effort)
        best = max(best, len(batch) / (time.perf_counter() - began))
    if name == "ours":
        vectors._mmap.madvise(mmap.MADV_DONTNEED)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    result = {
        "recall": round(reached, 4),
        "effort": effort,
        "p50_ms": round(statistics.median(seconds) * 1e3, 4),
        "p99_ms": round(float(np.quantile(seconds, 0.99)) * 1e3, 4),
        "batch_qps": round(best, 1),
        "build_s": round(built_s, 1),
        "resident_mb": round(int(status["VmRSS"].split()[0]) / 1024),
        **(engine.facts() if name == "ours" else {}),
    }
    print(json.dumps(result), flush=True)


def _in_batch(engine: Any, name: str, queries: Any, rows: Any, effort: int) -> None:  # noqa: ANN401
    """A thousand queries the fastest way it has: its own batch, or a thread a core where its calls run side by side."""
    if name in {"ours", "usearch", "hnswlib"}:
        engine.search(queries, rows, effort)
        return
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(lambda n: engine.search(queries[n : n + 1], rows[n : n + 1], effort), range(len(rows))))


class Ours:
    """A generation, built, published and searched as a service does it."""

    efforts = (0,)

    def __init__(self, folder: Path) -> None:
        from index.search.snapshot import Snapshot
        from index.vectors.generation import list_generations, load_generation

        # In a process of its own, as an index is built offline: what it took in memory is not the searching one's.
        subprocess.run([sys.executable, __file__, "--child", "build", str(folder.parent)], check=True)
        (name,) = list_generations(folder)
        started = time.perf_counter()
        self._snapshot = Snapshot(load_generation(folder, name), {})
        self._load_s = time.perf_counter() - started

    def search(self, queries: Any, rows: Any, effort: int) -> list[Any]:  # noqa: ANN401, ARG002
        """Rows of the nearest clips of other patients."""
        from index.query import ClipQuery
        from index.search.search import search, search_batch

        asked = [ClipQuery(f"{int(row):032x}") for row in rows]
        alone = len(asked) == 1
        results = [search(self._snapshot, asked[0], K)] if alone else search_batch(self._snapshot, asked, K)
        return [np.array([int(n.clip.clip_id, 16) for n in result.neighbours], np.int64) for result in results]

    def facts(self) -> dict[str, Any]:
        """What the generation says of itself."""
        manifest = self._snapshot.generation.manifest
        return {"load_s": round(self._load_s, 2), "index": manifest.index, "own_recall": manifest.recall}


def build(folder: Path) -> None:
    """Ours, from the same vectors."""
    from index.records import Clip
    from index.tables.clip_table import ClipTable
    from index.tables.rows import StoredClips
    from index.vectors.generation import build_generation

    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    clips = [
        Clip(f"{row:032x}", f"v{row // CLIPS_OF_A_VIDEO:07d}", f"p{owner:07d}", row % CLIPS_OF_A_VIDEO, 0.0, 10.0)
        for row, owner in enumerate(patients(len(vectors)).tolist())
    ]
    build_generation(StoredClips("bench", 1, ClipTable.of(clips), vectors), folder / "ours")


def report(clips: int, found: dict[str, dict[str, Any]]) -> None:
    """Ours against the best peer that reaches the recall, and against LanceDB's own index."""
    ours = found.pop("ours", None)
    able = {name: one for name, one in found.items() if one["recall"] >= RECALL}
    if ours is None or not able:
        return
    for what, key, unit, goal, sign in (
        ("single query, p50", "p50_ms", "ms", 1.5, -1),
        ("batch of 1,000 queries", "batch_qps", "queries/s", 3.0, 1),
        ("build", "build_s", "s", 1.0, -1),
    ):
        best = max(able, key=lambda name: sign * able[name][key])
        theirs = able[best][key]
        ratio = ours[key] / theirs if sign > 0 else theirs / ours[key]
        figure(f"{what} of {clips} clips", ours[key], unit, best, theirs, ratio, goal)
    fp16_mb = clips * WIDTH * 2 / 2**20
    for what, goal in (("fp16 vectors", 1.3), ("a quarter of 1.3 times that", 1.0)):
        limit = fp16_mb if goal > 1 else 1.3 * fp16_mb / 4
        share = ours["resident_mb"] / limit
        aim = goal if clips >= 1_000_000 else None  # of fewer, most is Python and its libraries
        figure(f"resident with {clips} clips", ours["resident_mb"], "MB", what, limit, share, aim, at_most=True)
    if "lancedb" in found:
        theirs = found["lancedb"]["p50_ms"]
        name = f"LanceDB's own index, recall {found['lancedb']['recall']}"
        figure(f"single query of {clips} clips", ours["p50_ms"], "ms", name, theirs, theirs / ours["p50_ms"], 20.0)


if __name__ == "__main__":
    main()
