"""What callers of each role see."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import InvalidInput
from index.query import PLAIN, ClipQuery, GroupBy, Options, SearchFilter, VectorQuery, VideoQuery
from index.records import Distance
from index.search.loader import SnapshotLoader
from index.search.search import search
from service.gate import disclosure
from service.roles import Caller, PermissionRefused, Role

ADMIN, CLINICIAN, READER, CLASSIFIER = (
    Caller("x", frozenset({role}), "token") for role in (Role.ADMIN, Role.CLINICIAN, Role.READER, Role.CLASSIFIER)
)
CLIP = ClipQuery("c")


@given(st.floats(-1, 1))
def test_rounding_moves_nothing_by_more_than_half_a_step(similarity):
    seen = disclosure.rounded(similarity)

    assert abs(seen - similarity) <= disclosure.STEP / 2 + 1e-9
    assert round(seen / disclosure.STEP, 6) == round(seen / disclosure.STEP)


def test_hits_are_exact_only_for_those_who_may_read_embeddings(stored):
    hits = search(
        SnapshotLoader(stored).snapshot, VideoQuery("v0-0"), 9, Options(group_by=GroupBy.VIDEO, mean_of=2)
    ).neighbours

    assert disclosure.shown(ADMIN, hits) == hits
    for seen, hit in zip(disclosure.shown(CLINICIAN, hits), hits, strict=True):
        assert seen.similarity == disclosure.rounded(hit.similarity)
        assert [m.similarity for m in seen.matches] == [disclosure.rounded(m.similarity) for m in hit.matches]


def test_points_of_the_map_are_rounded_as_similarities_are():
    positions = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)

    assert disclosure.shown_positions(ADMIN, positions) is positions
    seen = disclosure.shown_positions(CLINICIAN, positions)
    assert np.abs(seen - positions).max() <= disclosure.STEP / 2 + 1e-6
    assert {round(value, 2) for value in seen.reshape(-1).tolist()} == {round(n / 20, 2) for n in range(-20, 21)}


@pytest.mark.parametrize("caller", [CLINICIAN, READER, CLASSIFIER])
def test_queries_by_vector_are_for_those_who_may_read_embeddings(caller):
    with pytest.raises(PermissionRefused, match="a query by vector is for admin, trainer"):
        disclosure.check(caller, VectorQuery(None, "e"), 1, PLAIN)


@pytest.mark.parametrize(
    "options",
    [
        Options(include_own_patient=True),
        Options(group_by=GroupBy.PATIENT, mean_of=5),
        Options(group_by=GroupBy.VIDEO, aligned=True),
    ],
)
def test_a_reader_may_not_ask_for_what_reaches_further(options):
    disclosure.check(CLINICIAN, VideoQuery("v"), 10, options)
    with pytest.raises(PermissionRefused):
        disclosure.check(READER, VideoQuery("v"), 10, options)


@pytest.mark.parametrize(("caller", "most"), [(READER, 10), (CLINICIAN, 50), (ADMIN, 1000)])
def test_each_role_sees_so_many_hits(caller, most):
    disclosure.check(caller, CLIP, most, PLAIN)
    if most < 1000:
        with pytest.raises(InvalidInput, match=f"at most {most} hits for your role, got {most + 1}"):
            disclosure.check(caller, CLIP, most + 1, PLAIN)


@given(
    labels=st.sampled_from([frozenset(), frozenset({"TLE"}), frozenset({"exTLE"})]),
    group_by=st.sampled_from(GroupBy),
    k=st.integers(1, 10),
)
def test_whatever_a_reader_asks_the_hits_are_of_one_list(hits_and_videos, labels, group_by, k):
    hits, videos = hits_and_videos
    options = Options(SearchFilter(labels=labels), group_by)

    seen = disclosure.chosen(hits, k, options, videos)
    assert {hit.clip.clip_id for hit in seen} <= {hit.clip.clip_id for hit in hits}
    assert len(seen) <= k
    assert all(not labels or videos[hit.clip.video_id].label in labels for hit in seen)
    assert list(seen) == sorted(seen, key=lambda hit: (-hit.similarity, hit.clip.clip_id))


@pytest.fixture(scope="module")
def hits_and_videos(tmp_path_factory):
    from index.workspace import Workspace
    from tests.conftest import commit, make_cohort, publish_all

    workspace = Workspace(tmp_path_factory.mktemp("seen") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    snapshot = SnapshotLoader(workspace).snapshot
    return search(snapshot, VideoQuery("v0-0"), 10).neighbours, snapshot.videos


def test_a_distance_is_a_similarity_too():
    exact = Distance(0.1234, 0.4321, 256)

    assert disclosure.shown_distance(ADMIN, exact) == exact
    assert disclosure.shown_distance(CLASSIFIER, exact) == replace(exact, value=0.1, percentile=0.45)
    assert disclosure.shown_distance(CLINICIAN, None) is None
