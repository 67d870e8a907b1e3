"""How long a job would take, told from a short piece of it."""

import time
from contextlib import contextmanager

import pytest

from encoder.job import dry_run
from encoder.job.events import ClipReady
from encoder.job.pipeline import EncodeOptions
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from index.tables.store import Store


@pytest.mark.parametrize("stalled", [3, 7])
def test_one_batch_that_meets_another_job_changes_little(hospital, workspace, tiny_encoder, monkeypatch, stalled):
    manifest = read_manifest(hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2")))

    @contextmanager
    def engine(reader, rows, report):
        def events():
            for number in range(40):
                time.sleep(2.0 if number == 2 * stalled else 0.01)
                yield ClipReady(rows[0], None, 40, "", "")

        yield events()

    monkeypatch.setattr(dry_run, "local_engine", lambda embedder, options: engine)
    found = dry_run.dry_run(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions(batch=2))
    assert found.clips == 4
    assert 0.04 <= found.seconds < 1.0  # the mean would say four times that
    assert found.seconds_between[0] <= found.seconds <= found.seconds_between[1]


def test_a_job_of_less_than_a_batch_is_measured_as_a_whole(hospital, workspace, tiny_encoder):
    manifest = read_manifest(hospital(("short_7s.mp4", "p2", "v2")))
    found = dry_run.dry_run(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    assert (found.videos, found.clips) == (1, 1)
    assert found.seconds == found.seconds_between[0] == found.seconds_between[1] > 0
