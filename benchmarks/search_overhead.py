"""What the service adds to a bare FAISS search, over 100,000 clips: one client, one query at a time.

    .venv/bin/python benchmarks/search_overhead.py [--quick]

Builds a clustered cohort through the real store and a real generation, serves it with `semiome serve` as its own
process, and times the same queries in turn (A B A B, medians): FAISS's own search with the query's patient excluded,
the same without exclusion, and a whole Search call over gRPC. One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import psutil

from index.processors import usable_cores
from index.query import ClipQuery
from index.records import Clip, EmbeddedClip, Video, clip_id
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors.generation import build_generation, load_generation
from index.vectors.publication import publish
from index.workspace import Workspace
from service.client import Client
from service.processes.starting import server_process

WIDTH, VIDEOS_OF_A_PATIENT, CLIPS_OF_A_VIDEO, K = 768, 20, 10, 10
PATIENTS_A_COMMIT = 50
GOAL = 2.0


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="2,000 clips: proves that the script runs")
    quick = options.parse_args().quick
    clips, queries = (2_000, 20) if quick else (100_000, 200)
    say(f"{usable_cores()} cores, {psutil.virtual_memory().total >> 30} GiB; {clips} clips of {WIDTH} values")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        fill(workspace, clips)
        generation = load_generation(workspace.generations)
        with server_process(workspace.root) as server, Client(server["address"]) as client:
            say(f"serving on {server['address']}; {queries} queries, each in three ways in turn")
            measure(generation, client, queries)


def fill(workspace: Workspace, clips: int) -> None:
    """Store and index a cohort clustered by patient and video."""
    started = time.monotonic()
    random = np.random.default_rng(0)
    store = Store(workspace)
    patients = clips // (VIDEOS_OF_A_PATIENT * CLIPS_OF_A_VIDEO)
    with committing(store, "bench", WIDTH) as committer:
        for first in range(0, patients, PATIENTS_A_COMMIT):
            some = range(first, min(first + PATIENTS_A_COMMIT, patients))
            committer.commit([video_of(one, number, random) for one in some for number in range(VIDEOS_OF_A_PATIENT)])
        committer.compact()
    manifest = build_generation(store.clips("bench"), workspace.generations, kind="flat")
    publish(workspace, manifest.generation)
    say(f"stored and indexed {manifest.clips} clips in {time.monotonic() - started:.0f} s")


def video_of(patient: int, number: int, random: np.random.Generator) -> tuple[Video, list[EmbeddedClip]]:
    """A video whose clips lie near each other, and near those of its patient's other videos."""
    centre = np.random.default_rng(patient).normal(size=WIDTH) + 0.7 * random.normal(size=WIDTH)
    vectors = (centre + 0.5 * random.normal(size=(CLIPS_OF_A_VIDEO, WIDTH))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    source = f"{patient:08d}{number:08d}".ljust(64, "0")
    video = Video(f"v{patient}-{number}", f"p{patient}", source, label="TLE", clip_count=CLIPS_OF_A_VIDEO)
    clips = [
        EmbeddedClip(
            Clip(clip_id(source, video.video_id, 10.0 * k), video.video_id, video.patient_id, k, 10.0 * k, 10.0), vector
        )
        for k, vector in enumerate(vectors)
    ]
    return video, clips


def measure(generation, client: Client, queries: int) -> None:  # noqa: ANN001
    """Time every query in each way, one after the other."""
    index = faiss.IndexFlatIP(WIDTH)
    index.add(np.array(generation.vectors.all))
    patients = np.array([clip.patient_id for clip in generation.clips])
    chosen = np.random.default_rng(1).integers(0, len(generation.clips), queries)
    seconds: dict[str, list[float]] = {"bare": [], "excluding": [], "service": []}
    for row in chosen:
        vector = generation.vectors.rows([row])
        bitmap = np.packbits(patients != patients[row], bitorder="little")
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(len(patients), faiss.swig_ptr(bitmap)))
        query = ClipQuery(generation.clips[int(row)].clip_id)
        seconds["bare"].append(timed(lambda v=vector: index.search(v, K)))
        seconds["excluding"].append(timed(lambda v=vector, p=parameters: index.search(v, K, params=p)))
        seconds["service"].append(timed(lambda q=query: client.search(q, K)))
    ours = statistics.median(seconds["service"]) * 1e3
    for against, theirs in (
        ("faiss IndexFlatIP.search, own patient excluded", seconds["excluding"]),
        ("faiss IndexFlatIP.search, nothing excluded", seconds["bare"]),
    ):
        peer = statistics.median(theirs) * 1e3
        figure = {
            "name": f"search of {len(patients)} clips through gRPC, p50",
            "ours": round(ours, 3),
            "unit": "ms",
            "against": against,
            "theirs": round(peer, 3),
            "ratio": round(ours / peer, 3),
            "goal": GOAL,
            "holds": ours / peer < GOAL,
        }
        print(json.dumps(figure), flush=True)


def timed(call) -> float:  # noqa: ANN001
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def say(text: str) -> None:
    """What is going on, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
