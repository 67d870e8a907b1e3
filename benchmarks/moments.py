"""Finding moments in many hours of recordings: seconds a query, beside what must be done and what is done plainly.

    .venv/bin/python benchmarks/moments.py [--windows 100000 1000000]

The windows are made-up clips of recordings of an hour. A query is a seizure of nine clips. The limit is the one matrix
product that every exact way needs; the peers are a subsequence match in NumPy, without any stretching of time and
without keeping moments apart, and the libraries of `subsequence_peers.py` on the same whitened vectors, which know no
borders between recordings and no background. One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cohorts import embeddings
from figures import figure, say
from numpy.typing import NDArray
from subsequence_peers import subsequence_peers

from index.processors import usable_cores
from index.query import ANYTHING, VideoQuery
from index.records import Clip, Video
from index.search.moments import find_moments
from index.search.snapshot import Snapshot
from index.tables.clip_table import ClipTable
from index.tables.rows import StoredClips
from index.vectors.generation import FLAT, build_generation, load_generation

HOUR, SEIZURE, K, QUERIES = 360, 9, 20, 7
GOAL_S = 0.3
_BLOCK_ROWS = 2**15


def main() -> None:
    """Measure each size."""
    options = argparse.ArgumentParser()
    options.add_argument("--windows", type=int, nargs="+", default=[100_000, 1_000_000])
    say(f"{usable_cores()} cores; a seizure of {SEIZURE} clips, {K} moments")
    for windows in options.parse_args().windows:
        with tempfile.TemporaryDirectory() as scratch:
            measure(windows, Path(scratch))


def measure(windows: int, folder: Path) -> None:
    """One size."""
    vectors = embeddings(windows)
    clips, videos = [], {}
    for row in range(windows):
        number, index = divmod(row, HOUR)
        name, patient = f"v{number:06d}", f"p{number:06d}"
        clips.append(Clip(f"{row:032x}", name, patient, index, 10.0 * index, 10.0))
        if index == 0:
            end = 10.0 * SEIZURE
            videos[name] = Video(name, patient, "0" * 64, onset_s=0.0, seizure_end_s=end, duration_s=10.0 * HOUR)
    build_generation(StoredClips("bench", 1, ClipTable.of(clips), vectors), folder, kind=FLAT)
    snapshot = Snapshot(load_generation(folder, next(one.name for one in folder.glob("[0-9]*"))), videos)
    names = [f"v{number:06d}" for number in np.random.default_rng(1).choice(windows // HOUR, QUERIES, replace=False)]
    rows = {name: snapshot.rows_of(VideoQuery(name))[:SEIZURE] for name in names}

    ours = timed(lambda name: find_moments(snapshot, VideoQuery(name), K, ANYTHING), names)
    product = timed(lambda name: products(vectors, vectors[rows[name]]), names)
    plain = timed(lambda name: subsequences(vectors, vectors[rows[name]]), names)
    whitened = snapshot.whitened(np.arange(windows))
    peers = {
        peer: timed(lambda name, match=match: match(whitened[rows[name]], whitened, K), names)
        for peer, match in subsequence_peers().items()
    }
    what = f"{K} moments in {windows} windows"
    figure(what, ours, "s", "the goal", GOAL_S, ours / GOAL_S, 1 if windows == 1_000_000 else None, at_most=True)
    figure(what, ours, "s", "one matrix product", product, ours / product, None, at_most=True)
    figure(what, ours, "s", "NumPy, no stretching", plain, ours / plain, None, at_most=True)
    for peer, seconds in peers.items():
        figure(what, ours, "s", peer, seconds, ours / seconds, None, at_most=True)


def timed(ask: Callable[[str], object], names: list[str]) -> float:
    """Median seconds a query, after one that does not count."""
    ask(names[0])
    seconds = []
    for name in names:
        started = time.perf_counter()
        ask(name)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def products(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """(Q, N) cosines, block by block."""
    found = np.empty((len(queries), len(vectors)), np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        np.matmul(queries, vectors[start : start + _BLOCK_ROWS].T, out=found[:, start : start + _BLOCK_ROWS])
    return found


def subsequences(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """The best starts of stretches as long as the query, within or across recordings alike."""
    cosines = products(vectors, queries)
    count = len(vectors) - len(queries) + 1
    total = np.zeros(count, np.float32)
    for number, row in enumerate(cosines):
        total += row[number : number + count]
    best: NDArray[np.int64] = np.argpartition(-total, K)[:K]
    return best


if __name__ == "__main__":
    main()
