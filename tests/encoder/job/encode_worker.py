"""One encode job in a process of its own, to be killed: with small commits, and a record of every clip embedded."""

import hashlib
import os
from pathlib import Path

from encoder.job import pipeline, storing
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.identity import new_encoder
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import tiny_architecture


class _Recording(Embedder):
    def __init__(self, encoder, record):
        super().__init__(encoder, threads=1)
        self._record = record

    def begin(self, frames):
        for clip in frames:
            os.write(self._record, hashlib.sha256(clip.tobytes()).hexdigest().encode() + b"\n")
        return super().begin(frames)


def job(manifest, workspace, record, ready):
    """Encode, with the digests of all embedded clips in the file `record`, and a byte on `ready` when it begins."""
    import lancedb  # noqa: F401  before it begins: a kill should meet the work, not an import

    storing._COMMIT_CLIPS = 2
    descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    embedder = _Recording(new_encoder(tiny_architecture(), seed=0), descriptor)
    store = Store(Workspace(Path(workspace)))
    rows = read_manifest(Path(manifest))
    ready.send_bytes(b".")
    report = pipeline.encode(rows, embedder, store, pipeline.EncodeOptions(batch=2))
    assert report.refused == [], report.refused
