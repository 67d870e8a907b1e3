"""Messages and records say the same, both ways."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import InvalidInput
from index.query import ClipQuery, GroupBy, SearchFilter, VectorQuery, VideoQuery
from index.records import Clip, ClipVerdict, Neighbour, Verdict
from protos import classification_pb2 as classification
from protos import retrieval_pb2 as retrieval
from service import convert
from service.answers import BatchAnswer, BatchItem, ClassifyAnswer, Judged, Provenance, SearchAnswer

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
floats = st.floats(-1, 1, width=32)
clips = st.builds(Clip, text, text, text, st.integers(0, 2**31), st.floats(0, 1e6), st.floats(0, 10))
provenances = st.builds(Provenance, text, text, text)
judged = st.lists(st.tuples(clips, st.builds(ClipVerdict, st.floats(0, 1), text)), max_size=4).flatmap(
    lambda pairs: st.builds(
        Judged,
        st.builds(
            Verdict,
            text,
            st.floats(0, 1),
            st.tuples(st.integers(0, 99), st.integers(0, 99)),
            st.booleans(),
            st.just(tuple(vote for _, vote in pairs)),
        ),
        st.just(tuple(clip for clip, _ in pairs)),
    )
)


@given(
    st.builds(
        SearchAnswer, provenances, st.lists(st.builds(Neighbour, clips, text, floats, text), max_size=4).map(tuple)
    )
)
def test_search_answers_survive_the_wire(answer):
    message = retrieval.SearchResponse.FromString(convert.search_response(answer).SerializeToString())

    assert convert.search_answer(message) == answer


@given(st.builds(ClassifyAnswer, provenances, judged))
def test_classify_answers_survive_the_wire(answer):
    message = classification.ClassifyResponse.FromString(convert.classify_response(answer).SerializeToString())

    assert convert.classify_answer(message) == answer


@given(provenances, st.lists(judged, max_size=3), text)
def test_batch_answers_survive_the_wire(provenance, good, message_text):
    results = (*(BatchItem("OK", "", one) for one in good), BatchItem("NOT_FOUND", message_text, None))
    answer = BatchAnswer(provenance, results)
    message = classification.ClassifyBatchResponse.FromString(convert.batch_response(answer).SerializeToString())

    assert convert.batch_answer(message) == answer


@pytest.mark.parametrize("query", [ClipQuery("c1"), VideoQuery("v1")])
@pytest.mark.parametrize("group_by", GroupBy)
def test_search_requests_survive_the_wire(query, group_by):
    where = SearchFilter(
        frozenset({"TLE"}), frozenset({"t"}), frozenset({"p"}), frozenset({"q"}), "2024-01-01", "2025-01-01"
    )
    request = convert.search_request(query, 7, where, group_by, include_own_patient=True)
    message = retrieval.SearchRequest.FromString(request.SerializeToString())

    assert convert.query_from_proto(message) == query
    assert convert.filter_from_proto(message.filter) == where
    assert (convert.k_from_proto(message), convert.group_from_proto(message)) == (7, group_by)
    assert message.include_own_patient


def test_a_vector_survives_the_wire():
    vector = np.random.default_rng(0).normal(size=768).astype(np.float32)
    request = convert.search_request(
        VectorQuery(vector, "enc1", "p1"), 1, SearchFilter(), GroupBy.CLIP, include_own_patient=False
    )
    query = convert.query_from_proto(retrieval.SearchRequest.FromString(request.SerializeToString()))

    assert (query.encoder_id, query.patient_id) == ("enc1", "p1")
    np.testing.assert_array_equal(query.vector, vector)


def test_what_is_absent_has_its_default_and_what_is_zero_stays_zero():
    assert convert.k_from_proto(retrieval.SearchRequest()) == 10
    assert convert.k_from_proto(retrieval.SearchRequest(k=0)) == 0
    assert convert.group_from_proto(retrieval.SearchRequest()) == GroupBy.CLIP


def test_a_request_for_nothing_is_refused():
    with pytest.raises(InvalidInput, match="clip_id, video_id or vector"):
        convert.query_from_proto(retrieval.SearchRequest())
    with pytest.raises(InvalidInput, match="a clip_id or a video_id"):
        convert.item_from_proto(classification.Item())
    with pytest.raises(InvalidInput, match="group_by of 0 to 3, got 9"):
        convert.group_from_proto(retrieval.SearchRequest(group_by=9))
