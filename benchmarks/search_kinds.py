"""Which kind of index searches what: FAISS's exact one, what `semiome index build` chooses, and plain matrix products.

    .venv/bin/python benchmarks/search_kinds.py [--quick]

Two cohorts: clips whose nearest neighbours are clips of other patients with the same signs, and clips of patients who
lie far apart, as patient-level pretraining aims at, so that the neighbours left without the query's own patient are
nearly equally far. Of each a generation is built as the command does it, and asked for the 10 nearest of other
patients, against the exact index with the same exclusion. Then batches of queries, each with a patient of its own to
leave out: FAISS's exact index, asked for more and cut, against plain products. One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from cohorts import CLIPS_OF_A_PATIENT, CLIPS_OF_A_VIDEO, embeddings, far_apart, patients
from figures import figure, say
from numpy.typing import NDArray

from index.processors import usable_cores
from index.records import Clip
from index.tables.clip_table import ClipTable
from index.tables.rows import StoredClips
from index.vectors.brute_force import Allowed, Vectors, nearest
from index.vectors.faiss_index import FLAT, FlatIndex
from index.vectors.generation import build_generation, load_generation

K, QUERIES, ROUNDS, TARGET = 10, 300, 5, 0.95


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="few clips: proves that the script runs")
    options.add_argument("--clips", type=int, nargs="*", default=[21_600, 100_000])
    chosen = options.parse_args()
    say(f"{usable_cores()} cores")
    for count in [4_000] if chosen.quick else chosen.clips:
        for name, made in (("near neighbours", embeddings(count)), ("patients far apart", far_apart(count))):
            _chosen_kind(name, made, approximate=chosen.quick)
    for count in [2_000] if chosen.quick else [8_985, 20_000]:
        for batch in (1, 64, 1000):
            _batches(embeddings(count), batch)


def _chosen_kind(name: str, made: NDArray[np.float32], *, approximate: bool) -> None:
    """Print what the chosen kind takes and finds, against the exact one."""
    owner = patients(len(made))
    rows = [
        Clip(f"{row:032x}", f"v{row // CLIPS_OF_A_VIDEO:07}", f"p{owner[row]:07}", row % CLIPS_OF_A_VIDEO, 0.0, 10.0)
        for row in range(len(made))
    ]
    stored = StoredClips("bench", 1, ClipTable.of(rows), made)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        manifest = build_generation(stored, Path(folder), kind="ivf-sq8" if approximate else None)
        built_s = time.perf_counter() - started
        generation = load_generation(Path(folder), manifest.generation)
        exact = FlatIndex(generation.vectors)
        asked = np.random.default_rng(1).choice(len(made), QUERIES, replace=False)
        seconds: dict[str, list[float]] = {"exact": [], "chosen": []}
        found = 0
        for row in asked.tolist():
            start = owner[row] * CLIPS_OF_A_PATIENT
            allowed = Allowed(len(made), without=range(start, min(start + CLIPS_OF_A_PATIENT, len(made))))
            query = made[row : row + 1]
            (truth, _), took = _timed(lambda: exact.search(query, K, allowed))  # noqa: B023
            seconds["exact"].append(took)
            (similarities, _), took = _timed(lambda: generation.index.search(query, K, allowed))  # noqa: B023
            seconds["chosen"].append(took)
            found += int((similarities[0] >= truth[0, -1] - 1e-5).sum())
    flat_ms, chosen_ms = (statistics.median(values) * 1e3 for values in (seconds["exact"], seconds["chosen"]))
    what = f"{len(made)} clips, {name}"
    say(f"{what}: built in {built_s:.0f} s, tried before {manifest.tried}")
    figure(f"{what}: search, {manifest.index}", chosen_ms, "ms", FLAT, flat_ms, flat_ms / chosen_ms, None)
    recall = found / (K * QUERIES)
    figure(f"{what}: recall@10 without the own patient", recall, "share", "target", TARGET, recall / TARGET, 1.0)


def _batches(made: NDArray[np.float32], count: int) -> None:
    """Print what a batch takes with FAISS's exact index and with plain products."""
    vectors, owner = Vectors(made), patients(len(made))
    index = faiss.IndexFlatIP(vectors.width)
    index.add(made)
    rows = np.random.default_rng(2).choice(len(made), count, replace=False)
    starts = owner[rows] * CLIPS_OF_A_PATIENT
    allowed = [Allowed(len(made), without=range(s, min(s + CLIPS_OF_A_PATIENT, len(made)))) for s in starts.tolist()]
    queries = np.ascontiguousarray(made[rows])

    def by_faiss() -> None:
        similarities, found = index.search(queries, K + CLIPS_OF_A_PATIENT)
        similarities[(found >= starts[:, None]) & (found < starts[:, None] + CLIPS_OF_A_PATIENT)] = -np.inf
        np.argsort(-similarities, axis=1)[:, :K]

    seconds: dict[str, list[float]] = {"faiss": [], "products": []}
    for _ in range(ROUNDS):
        seconds["faiss"].append(_timed(by_faiss)[1])
        seconds["products"].append(_timed(lambda: nearest(queries, vectors, K, allowed))[1])
    faiss_ms, products_ms = (statistics.median(values) * 1e3 for values in seconds.values())
    what = f"exact, {len(made)} clips, {count} queries at once, each without its own patient"
    figure(what, faiss_ms, "ms by FAISS", "matrix products", products_ms, products_ms / faiss_ms, None)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


if __name__ == "__main__":
    main()
