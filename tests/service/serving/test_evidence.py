"""A verdict can be computed again from the answer alone, and doubted."""

from itertools import combinations
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.head import Conformal, Head, HeadCard, vote
from index.query import ClipQuery, VideoQuery
from index.search.loader import SnapshotLoader
from index.search.novelty import NEIGHBOUR, novelty, usual_distances
from index.workspace import Workspace
from protos import classification_pb2 as classification
from service.messages import convert_verdict
from service.serving.evidence import fewest_flipping, flipping
from service.serving.state import ServingState
from tests.conftest import WIDTH, commit, head_layers, make_cohort, publish_all


@st.composite
def probabilities(draw):
    """(N, C) of up to 7 clips and 4 classes, half of the time in so few steps that ties are common."""
    classes = draw(st.integers(2, 4))
    weight = draw(st.sampled_from([st.integers(1, 4), st.floats(0.001, 1)]))
    rows = draw(st.lists(st.lists(weight, min_size=classes, max_size=classes), min_size=1, max_size=7))
    weights = np.array(rows, float)
    return weights / weights.sum(axis=1, keepdims=True)


def head(conformal=None, temperature=1.7):
    card = HeadCard((WIDTH, 2), ("TLE", "exTLE"), 0.5, temperature, "enc1", "0" * 64, 1, 1, 1, (), 0, 1, conformal)
    return Head(head_layers(3), card)


NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def state(tmp_path_factory):

    workspace = Workspace(tmp_path_factory.mktemp("evidence") / "workspace")
    commit(workspace, make_cohort(patients=6, videos=3, clips=5))
    publish_all(workspace)
    return ServingState(SnapshotLoader(workspace).snapshot, head(Conformal(0.1, (0.55, 0.5), (5, 5))))


@given(probabilities())
def test_flipping_clips_are_those_without_which_the_verdict_is_another(values):
    verdict = vote(values, NAMES[: values.shape[1]])
    wanted = [
        len(values) > 1 and vote(np.delete(values, n, axis=0), verdict.classes).label != verdict.label
        for n in range(len(values))
    ]

    assert flipping(verdict) == wanted


@given(probabilities())
def test_no_smaller_number_of_clips_turns_the_verdict(values):
    verdict = vote(values, NAMES[: values.shape[1]])
    turns = [
        count
        for count in range(1, len(values))
        for left in combinations(values, len(values) - count)
        if vote(np.array(left), verdict.classes).label != verdict.label
    ]

    assert fewest_flipping(verdict) == min(turns, default=0)


@pytest.mark.parametrize("item", [VideoQuery(f"v{p}-{v}") for p in range(6) for v in range(3)])
def test_the_verdict_can_be_computed_from_the_answer_alone(state, item):
    """With the standard library, from the message that a client of any language gets."""
    sent = convert_verdict.classify_response(state.classify(item)).SerializeToString()
    verdict = classification.ClassifyResponse.FromString(sent).verdict

    weights = [[exp(logit / verdict.temperature) for logit in clip.logits] for clip in verdict.clips]
    chances = [extle / (tle + extle) for tle, extle in weights]
    votes = ["exTLE" if chance >= 0.5 else "TLE" for chance in chances]
    mean = sum(chances) / len(chances)
    extle, tle = votes.count("exTLE"), votes.count("TLE")

    def label(extle, tle, mean):
        return "exTLE" if extle > tle or (extle == tle and mean >= 0.5) else "TLE"

    assert chances == pytest.approx([clip.probabilities[1] for clip in verdict.clips], rel=1e-12)
    assert votes == [clip.label for clip in verdict.clips]
    assert [one.label for one in verdict.classes] == ["TLE", "exTLE"]
    assert [one.probability for one in verdict.classes] == pytest.approx([1 - mean, mean], rel=1e-12)
    assert ([one.votes for one in verdict.classes], verdict.margin) == ([tle, extle], abs(extle - tle))
    assert verdict.tie == (extle == tle)
    assert [clip.logits[1] - clip.logits[0] for clip in verdict.clips] == [clip.logit for clip in verdict.clips]
    assert [clip.probabilities[1] for clip in verdict.clips] == [clip.extle_probability for clip in verdict.clips]
    assert (verdict.extle_probability, verdict.threshold) == (verdict.classes[1].probability, 0.5)
    assert (verdict.tle_votes, verdict.extle_votes) == (tle, extle)
    assert (verdict.conformal.tle_limit, verdict.conformal.extle_limit) == tuple(verdict.conformal.limits)
    assert verdict.label == label(extle, tle, mean)
    without = {
        clip.clip.clip_id: label(
            extle - (clip.label == "exTLE"), tle - (clip.label == "TLE"), (sum(chances) - chance) / (len(chances) - 1)
        )
        for clip, chance in zip(verdict.clips, chances, strict=True)
    }
    assert list(verdict.flipping_clip_ids) == [name for name, other in without.items() if other != verdict.label]
    sets = [
        name
        for name, rest, limit in zip(("TLE", "exTLE"), (mean, 1 - mean), verdict.conformal.limits, strict=True)
        if rest <= limit
    ]
    assert list(verdict.conformal.labels) == sets
    assert verdict.conformal.abstains == (len(sets) != 1)


def test_the_nearest_of_each_class_are_labelled_so_and_of_other_patients(state):
    evidence = state.classify(VideoQuery("v1-0")).judged.evidence

    assert [label for label, _ in evidence.neighbours] == ["TLE", "exTLE"]
    for label, hits in evidence.neighbours:
        assert len(hits) == 3
        assert {hit.label for hit in hits} == {label}
        assert "p1" not in {hit.clip.patient_id for hit in hits}
        assert len({hit.clip.video_id for hit in hits}) == 3


def test_the_distance_is_that_to_the_fifth_nearest_clip_of_other_patients(state):
    snapshot = state.snapshot
    everything = snapshot.generation.vectors.all
    clips, vectors = snapshot.clips_of(ClipQuery(snapshot.clip(7).clip_id))
    others = snapshot.patient_of_row != snapshot.patient_of_row[7]
    similarities = np.sort(everything[others] @ vectors[0])[::-1]

    distance = state.classify(ClipQuery(clips[0].clip_id)).judged.evidence.distance
    assert distance.value == pytest.approx(1 - similarities[NEIGHBOUR - 1], abs=1e-6)
    assert distance.sample == 90
    assert 0 <= distance.percentile <= 1


def test_what_is_unlike_everything_is_further_than_all_that_is_stored(tmp_path):

    random = np.random.default_rng(0)
    workspace = Workspace(tmp_path / "workspace")
    centre = np.ones(WIDTH)
    cohort = make_cohort(patients=6, videos=3, clips=5)
    from dataclasses import replace

    near = []
    for video, clips in cohort:
        vectors = [(centre + 0.2 * random.normal(size=WIDTH)).astype(np.float32) for _ in clips]
        near.append((video, [replace(c, vector=v / np.linalg.norm(v)) for c, v in zip(clips, vectors, strict=True)]))
    commit(workspace, near)
    publish_all(workspace)
    snapshot = SnapshotLoader(workspace).snapshot
    strange = -np.eye(WIDTH, dtype=np.float32)[:1]

    usual = usual_distances(snapshot)
    assert novelty(snapshot, strange, "", usual).percentile == 1.0
    assert novelty(snapshot, snapshot.vectors(np.array([3])), "p0", usual).percentile < 1.0


def test_a_store_too_small_to_say_says_nothing(tmp_path):

    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, make_cohort(patients=2, videos=1, clips=2))
    publish_all(workspace)
    state = ServingState(SnapshotLoader(workspace).snapshot, head())

    assert state.classify(VideoQuery("v0-0")).judged.evidence.distance is None


def test_a_summary_has_the_verdict_of_the_whole(state):
    ids = [clip.clip_id for clip in state.snapshot.generation.clips]
    items = [*map(ClipQuery, ids), VideoQuery("v2-1"), ClipQuery("absent")]

    short = state.classify_batch(items, summaries=True).results
    whole = state.classify_batch(items).results
    assert [one.code for one in short] == [one.code for one in whole]
    for few, all_ in zip(short[:-1], whole[:-1], strict=True):
        assert few.judged.clips == ()
        assert few.judged.verdict.votes == all_.judged.verdict.votes
        assert few.judged.verdict.probabilities == pytest.approx(all_.judged.verdict.probabilities, abs=1e-6)
        assert few.judged.evidence.prediction_set == all_.judged.evidence.prediction_set


def test_of_a_long_recording_clips_that_are_spread_evenly_stand_for_all(tmp_path):
    workspace = Workspace(tmp_path)
    commit(workspace, make_cohort(patients=6, videos=3, clips=5))
    publish_all(workspace)
    snapshot = SnapshotLoader(workspace).snapshot
    usual = usual_distances(snapshot)
    vectors = np.random.default_rng(0).standard_normal((1000, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    few = vectors[[round(n * 999 / 255) for n in range(256)]]
    assert novelty(snapshot, vectors, "p0", usual) == novelty(snapshot, few, "p0", usual)
