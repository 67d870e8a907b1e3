"""Messages and records say the same, both ways."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import InvalidInput
from index.feedback.statement import EVENTS, RELEVANCES, Feedback
from index.moment_records import BackgroundRate, Moment, MomentPair, MomentsAnswer, SimilarityAnswer
from index.query import (
    ANYTHING,
    PLAIN,
    AllOf,
    AnyOf,
    ClipQuery,
    ExamplesQuery,
    GroupBy,
    Not,
    Options,
    SearchFilter,
    VectorQuery,
    VideoQuery,
)
from index.records import (
    Clip,
    ClipVerdict,
    Distance,
    Match,
    Neighbour,
    Provenance,
    SearchAnswer,
    Verdict,
    Video,
)
from index.semiology import LearnedSign, Stretch
from index.tables.recording import RecordedVideo
from protos import admin_pb2 as admin
from protos import catalog_pb2 as catalog
from protos import classification_pb2 as classification
from protos import common_pb2 as common
from protos import retrieval_pb2 as retrieval
from protos import review_pb2 as review
from service.messages import (
    convert,
    convert_admin,
    convert_catalog,
    convert_moments,
    convert_review,
    convert_signs,
    convert_verdict,
)
from service.records import (
    BatchAnswer,
    BatchItem,
    ClassifyAnswer,
    Count,
    CountsAnswer,
    Evidence,
    GenerationFacts,
    Judged,
    Operation,
    PredictionSet,
    RecordingAnswer,
    SearchBatchAnswer,
    SearchResultItem,
    SignsAnswer,
    SignTrack,
    VideoAnswer,
)

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
floats = st.floats(-1, 1, width=32)
shares = st.floats(0, 1)
clips = st.builds(Clip, text, text, text, st.integers(0, 2**31), st.floats(0, 1e6), st.floats(0, 10))
provenances = st.builds(Provenance, text, text, text, st.integers(0, 2**40))
matches = st.lists(st.builds(Match, clips, floats, text), max_size=2).map(tuple)
neighbours = st.lists(st.builds(Neighbour, clips, text, floats, text, matches), max_size=4).map(tuple)
sets = st.builds(
    PredictionSet, st.sampled_from([(), ("TLE",), ("TLE", "exTLE")]), shares, st.lists(shares, max_size=4).map(tuple)
)


@st.composite
def judged(draw):
    classes = draw(st.integers(2, 4))
    each = st.lists(shares, min_size=classes, max_size=classes).map(tuple)
    pairs = draw(st.lists(st.tuples(clips, each, text, each), max_size=4))
    names = draw(st.lists(text, min_size=classes, max_size=classes).map(tuple))
    counts = draw(st.lists(st.integers(0, 99), min_size=classes, max_size=classes).map(tuple))
    votes = tuple(ClipVerdict(probabilities, label) for _, probabilities, label, _ in pairs)
    verdict = Verdict(draw(text), names, draw(each), counts, draw(st.booleans()), votes)
    evidence = Evidence(
        temperature=draw(shares),
        logits=tuple(logit for *_, logit in pairs),
        prediction_set=draw(st.none() | sets),
        flipping_clip_ids=draw(st.lists(text, max_size=2).map(tuple)) if pairs else (),
        fewest_flipping_clips=draw(st.integers(0, 9)) if pairs else 0,
        neighbours=draw(st.lists(st.tuples(text, neighbours), max_size=2).map(tuple)),
        distance=draw(st.none() | st.builds(Distance, shares, shares, st.integers(0, 99))),
    )
    return Judged(verdict, tuple(clip for clip, *_ in pairs), evidence)


def sent(message):
    return type(message).FromString(message.SerializeToString())


@given(st.builds(SearchAnswer, provenances, neighbours))
def test_search_answers_survive_the_wire(answer):
    assert convert.search_answer(sent(convert.search_response(answer))) == answer


@given(provenances, st.lists(neighbours, max_size=3), text)
def test_answers_to_many_searches_survive_the_wire(provenance, found, words):
    results = (*(SearchResultItem("OK", "", one) for one in found), SearchResultItem("NOT_FOUND", words, ()))
    answer = SearchBatchAnswer(provenance, results)

    assert convert.search_batch_answer(sent(convert.search_batch_response(answer))) == answer


tracks = st.builds(
    SignTrack,
    st.builds(LearnedSign, text, st.integers(0, 99), st.integers(0, 99), shares, shares, shares),
    st.lists(shares, max_size=4).map(tuple),
    st.lists(st.builds(Stretch, shares, shares, shares), max_size=3).map(tuple),
)
left = st.lists(st.tuples(text, text), max_size=2).map(tuple)


@given(
    st.builds(
        SignsAnswer,
        provenances,
        text,
        st.lists(clips, max_size=3).map(tuple),
        st.lists(tracks, max_size=2).map(tuple),
        left,
    )
)
def test_signs_survive_the_wire(answer):
    assert convert_signs.signs_answer(sent(convert_signs.signs_response(answer))) == answer


@given(st.builds(ClassifyAnswer, provenances, judged()))
def test_classify_answers_survive_the_wire(answer):
    assert convert_verdict.classify_answer(sent(convert_verdict.classify_response(answer))) == answer


@pytest.mark.parametrize("response", [convert_verdict.batch_response, convert_verdict.stream_response])
@given(provenance=provenances, good=st.lists(judged(), max_size=3), words=text)
def test_batch_answers_survive_the_wire(response, provenance, good, words):
    results = (*(BatchItem("OK", "", one) for one in good), BatchItem("NOT_FOUND", words, None))
    answer = BatchAnswer(provenance, results)

    assert convert_verdict.batch_answer(sent(response(answer))) == answer


def test_what_the_catalogue_says_survives_the_wire():
    provenance = Provenance("e", "g", "h", 3)
    times = {"start_s": 3.5, "end_s": 16.0, "onset_s": 3.5, "seizure_end_s": 12.25}
    more = {"salvaged": True, "metadata": (("Ort", "Halle, 2. OG"), ("montage", "10-20")), **times}
    video = Video("v", "p", "", "TLE", "2024-01-01", ("Semiology-versive",), "room1", "test", 12.5, 2, **more)
    count = Count("TLE", 3, 2, 1)
    answer = VideoAnswer(provenance, video, (Clip("c", "v", "p", 0, 0.0, 10.0),))
    counts = CountsAnswer(provenance, count, (count,), (count, count))

    assert convert_catalog.video_answer(sent(convert_catalog.video_response(answer))) == answer
    assert convert_catalog.counts_answer(sent(convert_catalog.counts_response(counts))) == counts
    assert convert_catalog.video_to_proto(Video("v", "p", "digest of the file")) == catalog.Video(
        video_id="v", patient_id="p"
    )


@given(
    st.builds(
        Moment,
        *(text, text, st.sampled_from(["TLE", ""])),
        *(st.floats(0, 1e5), st.floats(0, 1e5), st.none() | st.floats(0, 1e5), st.floats(-1, 1)),
        st.lists(st.builds(MomentPair, text, text, *(2 * [st.floats(0, 1e5)])), max_size=3).map(tuple),
        *(2 * [st.none() | st.builds(BackgroundRate, *(4 * [st.floats(0, 1e5)]))]),
    ),
    st.booleans(),
    st.none() | st.floats(0, 100),
)
def test_moments_survive_the_wire(moment, own, most):
    answer = MomentsAnswer(Provenance("e", "g", "h", 3), (moment, moment))
    assert convert_moments.moments_answer(sent(convert_moments.moments_response(answer))) == answer
    where = SearchFilter(labels=frozenset({"TLE"}))
    request = convert_moments.moments_request(VideoQuery("v"), 7, where, include_own_patient=own, max_per_hour=most)
    assert request.include_own_patient == own
    assert (request.max_per_hour if request.HasField("max_per_hour") else None) == most
    assert convert_moments.moments_wanted(sent(request)) == (VideoQuery("v"), 7, where)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1, 1, width=32))))
def test_similarity_along_a_video_survives_the_wire(along):
    starts, similarities = zip(*along, strict=True) if along else ((), ())
    answer = SimilarityAnswer(Provenance("e", "g", "h", 3), tuple(starts), tuple(similarities))
    assert convert_moments.similarity_answer(sent(convert_moments.similarity_response(answer))) == answer


def test_a_recording_survives_the_wire():
    videos = tuple(RecordedVideo(video, 3600.5 * number) for number, video in enumerate(VIDEOS))
    answer = RecordingAnswer(Provenance("e", "g", "h", 3), videos)
    assert convert_catalog.recording_answer(sent(convert_catalog.recording_response(answer))) == answer


@pytest.mark.parametrize("event", ["", *EVENTS])
@pytest.mark.parametrize("relevance", ["", *RELEVANCES])
def test_what_people_say_survives_the_wire(event, relevance):
    said = Feedback("v", "", "q", "", "c", "d", relevance, "TLE", ("t",), 2.5, 12.25, event, "note", "id", "a", "now")
    assert convert_review.feedback_from_proto(sent(convert_review.feedback_to_proto(said))) == said
    with pytest.raises(InvalidInput, match="event"):
        convert_review.feedback_from_proto(review.Feedback(event=9))


def test_operations_and_generations_survive_the_wire():
    began, ended = "2026-01-02T03:04:05.678+00:00", "2026-01-02T03:05:00.000+00:00"
    failed = Operation("a1", "build", "failed", "building", began, 0.25, ended, "FAILED_PRECONDITION", "why")
    running = Operation("a2", "erase", "running", "starting", began)
    generation = GenerationFacts("000001-ab", "e", 7, 100, "flat", 0.5, began, serving=True, served_before=False)

    for one in (failed, running):
        assert convert_admin.operation_from_proto(sent(convert_admin.operation_to_proto(one))) == one
    assert convert_admin.generation_from_proto(sent(convert_admin.generation_to_proto(generation))) == generation
    assert set(admin.Operation.State.values()) - {0} == set(convert_admin._STATES.values())


@pytest.mark.parametrize("query", [ClipQuery("c1"), VideoQuery("v1")])
@pytest.mark.parametrize("group_by", GroupBy)
def test_search_requests_survive_the_wire(query, group_by):
    where = SearchFilter(
        frozenset({"TLE"}), frozenset({"t"}), frozenset({"p"}), frozenset({"q"}), "2024-01-01", "2025-01-01"
    )
    options = Options(where, group_by, include_own_patient=True, exact=True)
    message = sent(convert.search_request(query, 7, options))

    assert convert.query_from_proto(message.query) == query
    assert convert.options_from_proto(message.options) == (7, options)


def test_a_vector_survives_the_wire():
    vector = np.random.default_rng(0).normal(size=768).astype(np.float32)
    query = convert.query_from_proto(sent(convert.query_to_proto(VectorQuery(vector, "enc1", "p1"))))

    assert (query.encoder_id, query.patient_id) == ("enc1", "p1")
    np.testing.assert_array_equal(query.vector, vector)


def test_a_vector_is_little_endian_whatever_the_machine():
    query = convert.vector_from_proto(common.Vector(values=bytes([0, 0, 128, 63, 0, 0, 0, 192])))

    np.testing.assert_array_equal(query.vector, np.array([1.0, -2.0], np.float32))


VIDEOS = [
    Video(
        *(f"v{n}", f"p{n % 3}", "", ("TLE", "exTLE", "")[n % 3], "2024-01-01" if n % 2 else ""),
        camera=f"c{n % 2}",
        metadata=(("ward", f"W {n % 3}"),),
    )
    for n in range(12)
]
simple = st.builds(
    SearchFilter,
    labels=st.frozensets(st.sampled_from(["TLE", "exTLE"])),
    patient_ids=st.frozensets(st.sampled_from(["p0", "p1"])),
    cameras=st.frozensets(st.sampled_from(["c0", "c1"])),
    metadata=st.frozensets(st.sampled_from([("ward", "W 0"), ("ward", "W 1"), ("bed", "")])),
    recorded_from=st.sampled_from(["", "2023-01-01"]),
)


@given(
    st.recursive(
        simple,
        lambda inner: (
            st.lists(inner, max_size=2).map(tuple).map(AnyOf)
            | st.lists(inner, max_size=2).map(tuple).map(AllOf)
            | inner.map(Not)
        ),
        max_leaves=3,
    )
)
def test_any_filter_admits_the_same_videos_on_the_other_side(where):
    try:
        received = convert.filter_from_proto(sent(convert.filter_to_proto(where)))
    except InvalidInput:
        return  # nested deeper than a server takes

    assert [received.admits(video) for video in VIDEOS] == [where.admits(video) for video in VIDEOS]


def test_filters_nested_too_deep_or_too_many_are_refused():
    deep = common.Filter()
    for _ in range(50):
        deep = common.Filter(none_of=[deep])
    wide = common.Filter(any_of=[common.Filter()] * 100)

    for message in (deep, wide):
        with pytest.raises(InvalidInput, match="at most 32 filters, nested at most 4 deep"):
            convert.filter_from_proto(message)


def test_what_is_absent_has_its_default_and_what_is_zero_stays_zero():
    assert convert.options_from_proto(retrieval.SearchOptions()) == (10, PLAIN)
    assert convert.options_from_proto(retrieval.SearchOptions())[1] is PLAIN
    assert convert.options_from_proto(retrieval.SearchOptions(k=0)) == (0, PLAIN)
    assert convert.options_from_proto(retrieval.SearchOptions(filter=common.Filter()))[1].where == ANYTHING


def test_a_request_for_nothing_is_refused():
    with pytest.raises(InvalidInput, match="clip_id, video_id or vector"):
        convert.query_from_proto(retrieval.Query())
    with pytest.raises(InvalidInput, match="a clip_id or a video_id"):
        convert.item_from_proto(common.Item())
    with pytest.raises(InvalidInput, match="group_by of 0 to 3, got 9"):
        convert.options_from_proto(retrieval.SearchOptions(group_by=9))
    with pytest.raises(InvalidInput, match="4 bytes each, got 5 bytes"):
        convert.vector_from_proto(common.Vector(values=b"12345"))
    with pytest.raises(InvalidInput, match="one positive example"):
        convert.examples_from_proto(retrieval.RecommendRequest())


def test_examples_are_not_asked_about_with_search():
    with pytest.raises(InvalidInput, match="recommend"):
        convert.query_to_proto(ExamplesQuery((ClipQuery("c"),)))


def test_a_status_this_version_does_not_know_has_a_name():
    message = classification.ClassifyBatchResponse(results=[classification.ClassifyBatchResult()])
    message.results[0].status.code = 99

    assert convert_verdict.batch_answer(message).results[0].code == "UNKNOWN"
