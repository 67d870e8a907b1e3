"""The made-up cohort of `cohorts.py` as a workspace to serve: used by `service.py` and `page.py`."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
from cohorts import CLIPS_OF_A_PATIENT, CLIPS_OF_A_VIDEO, WIDTH, embeddings, patients
from figures import say

from encoder.head import Head, HeadCard, save_head
from index.records import Clip, EmbeddedClip, Video, clip_id
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors.generation import build_generation
from index.vectors.publication import publish
from index.workspace import Workspace, set_current


def fill(workspace: Workspace, clips: int) -> None:
    """Store the made-up cohort, index it, and put a head of random weights beside it."""
    started = time.monotonic()
    vectors, owner, store = embeddings(clips), patients(clips), Store(workspace)
    with committing(store, "bench", WIDTH) as committer:
        for first in range(0, clips, 20 * CLIPS_OF_A_PATIENT):
            starts = range(first, min(first + 20 * CLIPS_OF_A_PATIENT, clips), CLIPS_OF_A_VIDEO)
            committer.commit([video_of(start, vectors, owner) for start in starts])
        committer.compact()
    manifest = build_generation(store.clips("bench"), workspace.generations)
    publish(workspace, manifest.generation)
    card = HeadCard((WIDTH, 256, 2), ("TLE", "exTLE"), 0.5, 1.0, "bench", "0" * 64, 1, 1, 1, (), 0, 1)
    random = np.random.default_rng(0)
    layers = {}
    for number, (inputs, outputs) in enumerate(pairwise(card.widths)):
        layers[f"layers.{2 * number}.weight"] = random.normal(0, 0.05, (outputs, inputs)).astype(np.float32)
        layers[f"layers.{2 * number}.bias"] = np.zeros(outputs, np.float32)
    head = Head(layers, card)
    save_head(head, workspace.heads)
    set_current(workspace.heads, head.head_id)
    took = time.monotonic() - started
    say(f"stored and indexed {clips} clips in {took:.0f} s: {manifest.index}, recall {manifest.recall:.3f}")


def video_of(start: int, vectors: Any, owner: Any) -> tuple[Video, list[EmbeddedClip]]:  # noqa: ANN401
    """Ten clips from a row on."""
    number, patient = start // CLIPS_OF_A_VIDEO, f"p{owner[start]}"
    source, name = f"{number:016d}".ljust(64, "0"), f"v{number}"
    rows = range(start, min(start + CLIPS_OF_A_VIDEO, len(vectors)))
    clips = [Clip(clip_id(source, name, 10.0 * k), name, patient, k, 10.0 * k, 10.0) for k in range(len(rows))]
    video = Video(name, patient, source, label=("TLE", "exTLE")[owner[start] % 2], clip_count=len(rows))
    return video, [EmbeddedClip(clip, vectors[row]) for clip, row in zip(clips, rows, strict=True)]
