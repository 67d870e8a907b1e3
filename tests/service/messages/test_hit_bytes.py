"""Answers put together from bytes are those that protobuf itself writes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.query import ClipQuery
from index.records import Provenance, SearchAnswer
from index.search.loader import SnapshotLoader
from index.search.search import nearest_rows, search
from index.workspace import Workspace
from protos import retrieval_pb2 as retrieval
from service.messages import convert
from service.messages.hit_bytes import HitBytes
from tests.conftest import commit, make_cohort, make_video, publish_all


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Of an index and a video stored after it."""
    workspace = Workspace(tmp_path_factory.mktemp("bytes") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    commit(workspace, [make_video(7, 0, 3, np.random.default_rng(7), label="")])
    return SnapshotLoader(workspace).snapshot


PROVENANCE = Provenance("enc1", "000001-ab", "", 7)


@given(
    rows=st.lists(st.integers(0, 62), max_size=12),
    similarity=st.floats(-1, 1, width=32),
    asked=st.sampled_from(["", "c", "f" * 32, "x" * 3000]),
)
def test_they_are_what_protobuf_writes(snapshot, rows, similarity, asked):
    values = [similarity] * len(rows)
    made = HitBytes(snapshot, PROVENANCE).response(np.array(rows, np.int64), values, asked)

    written = retrieval.SearchResponse(provenance=convert.provenance_to_proto(PROVENANCE))
    for row, value in zip(rows, values, strict=True):
        clip = snapshot.clip(row)
        written.hits.add(
            clip=convert.clip_to_proto(clip), label=snapshot.label_of(clip), similarity=value, query_clip_id=asked
        )
    assert retrieval.SearchResponse.FromString(made) == written


def test_many_are_what_protobuf_writes_too(snapshot):
    asked = [
        (np.arange(3), [0.5, 0.25, -0.0], "c"),
        (np.empty(0, np.int64), [], ""),
        (np.arange(60, 63), [1.0] * 3, "d"),
    ]
    made = retrieval.SearchBatchResponse.FromString(HitBytes(snapshot, PROVENANCE).batch_response(asked))

    written = retrieval.SearchBatchResponse(provenance=convert.provenance_to_proto(PROVENANCE))
    for rows, values, query in asked:
        single = retrieval.SearchResponse.FromString(HitBytes(snapshot, PROVENANCE).response(rows, values, query))
        written.results.add(status=convert.status("OK", ""), hits=single.hits)
    assert made == written


def test_a_search_answered_so_is_the_search(snapshot):
    query = ClipQuery(snapshot.clip(5).clip_id)
    found = nearest_rows(snapshot, [query], 10)
    made = HitBytes(snapshot, PROVENANCE).response(found.rows[0], found.similarities[0].tolist(), query.clip_id)

    answer = convert.search_answer(retrieval.SearchResponse.FromString(made))
    wanted = tuple(
        replace(hit, similarity=pytest.approx(hit.similarity, abs=1e-6))
        for hit in search(snapshot, query, 10).neighbours
    )
    assert answer == SearchAnswer(PROVENANCE, wanted)
    assert found.patients == [snapshot.clip(5).patient_id]


def test_more_hits_than_are_remembered_are_right_too(snapshot, monkeypatch):
    monkeypatch.setattr("service.messages.hit_bytes._MAX_REMEMBERED", 2)
    of = HitBytes(snapshot, PROVENANCE)
    for _ in range(2):
        message = retrieval.SearchResponse.FromString(of.response(np.arange(9), [0.5] * 9, ""))
        assert [hit.clip.clip_id for hit in message.hits] == [snapshot.clip(row).clip_id for row in range(9)]
