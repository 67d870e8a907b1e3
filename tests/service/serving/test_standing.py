"""Every answer names whom the head learned from, what the encoder is, and whose an upload is."""

from dataclasses import replace

import numpy as np
import pytest

from encoder.head import LARGEST_TEMPERATURE, Conformal, Head, HeadCard, vote
from encoder.model.folder import install_encoder
from encoder.model.identity import new_encoder
from encoder.model.kind import kind_of, stored_kind, what_it_means
from index.query import ClipQuery, VideoQuery
from index.search.loader import SnapshotLoader
from index.tables.blocklist import patient_hash
from semiome.shipped import shipped_encoder, shipped_folder
from service.serving.state import ServingState
from tests.conftest import WIDTH, commit, head_layers, make_cohort, make_video, publish_all, tiny_architecture

pytestmark = pytest.mark.needs("torch")

KEY = b"k" * 32


@pytest.fixture
def state(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    learned = tuple(patient_hash(KEY, name) for name in ("p0", "p1"))
    sets = Conformal(0.1, (0.55, 0.5), (5, 5))
    card = HeadCard((WIDTH, 2), ("TLE", "exTLE"), 0.5, 2.0, "enc1", "0" * 64, 1, 1, 2, (), 0, 1, sets, learned)
    return ServingState(SnapshotLoader(workspace).snapshot, Head(head_layers(3), card), KEY, "simulated")


def test_a_verdict_on_a_patient_the_head_learned_from_says_so_and_is_not_calibrated(state):
    own, new = (state.classify(VideoQuery(name)).judged for name in ("v0-0", "v3-0"))

    assert [one.evidence.trained_on_this_patient for one in (own, new)] == [True, False]
    assert [one.evidence.calibrated for one in (own, new)] == [False, True]
    assert [one.evidence.prediction_set is None for one in (own, new)] == [True, False]
    raw = np.exp(np.array(own.evidence.logits))
    raw /= raw.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([clip.probabilities for clip in own.verdict.clips], raw)


def test_batches_and_summaries_say_the_same(state, cohort):
    items = [VideoQuery("v0-0"), VideoQuery("v3-0"), *(ClipQuery(cohort[n][1][0].clip.clip_id) for n in (0, 9))]

    for summaries in (False, True):
        results = state.classify_batch(items, summaries=summaries).results
        standing = [(r.judged.evidence.trained_on_this_patient, r.judged.evidence.calibrated) for r in results]
        assert standing == [(True, False), (False, True)] * 2
        sets = [r.judged.evidence.prediction_set is None for r in results]
        assert sets == [True, False, True, False]


def test_an_old_head_does_not_know_whom_it_learned_from(state):
    old = Head(state.head.layers, replace(state.head.card, training_patients=None))

    assert replace(state, head=old).learned_from("p0") is None
    assert state.learned_from("") is None


def test_a_head_at_the_bound_of_its_calibration_separates_nothing(state):
    useless = Head(state.head.layers, replace(state.head.card, temperature=LARGEST_TEMPERATURE))

    assert replace(state, head=useless).classify(VideoQuery("v3-0")).judged.evidence.separates_nothing
    assert not state.classify(VideoQuery("v3-0")).judged.evidence.separates_nothing


def test_clips_without_a_vote_are_counted(state):
    videos = state.snapshot.videos
    videos["v3-0"] = replace(videos["v3-0"], clip_count=6)

    assert state.classify(VideoQuery("v3-0")).judged.evidence.clips_without_picture == 2
    assert state.provenance.encoder_kind == "simulated"


@pytest.mark.parametrize(("from_onset_s", "voters"), [(None, [1, 2]), (10.0, [1])])
def test_only_clips_of_the_seizure_vote_where_its_onset_is_known(state, from_onset_s, voters):
    state = replace(state, head=Head(state.head.layers, replace(state.head.card, from_onset_s=from_onset_s)))
    videos = state.snapshot.videos
    every = state.classify(VideoQuery("v3-0")).judged
    videos["v3-0"] = replace(videos["v3-0"], start_s=100.0, onset_s=111.0, seizure_end_s=129.0)

    judged = state.classify(VideoQuery("v3-0")).judged

    assert judged.clips == tuple(every.clips[place] for place in voters)
    assert judged.evidence.logits == tuple(every.evidence.logits[place] for place in voters)
    assert judged.verdict == vote(
        np.array([every.verdict.clips[place].probabilities for place in voters]), ("TLE", "exTLE")
    )
    assert (judged.evidence.clips_outside_seizure, judged.evidence.clips_without_picture) == (4 - len(voters), 0)
    assert every.evidence.clips_outside_seizure == 0
    (short,) = state.classify_batch([VideoQuery("v3-0")], summaries=True).results
    (whole,) = state.classify_batch([VideoQuery("v3-0")]).results
    assert whole.judged.verdict == judged.verdict
    assert short.judged.verdict == replace(judged.verdict, clips=())
    assert short.judged.evidence.clips_outside_seizure == 4 - len(voters)
    lone = state.classify(ClipQuery(every.clips[0].clip_id)).judged  # asked for by itself it is judged
    assert lone.clips == every.clips[:1]


def test_clips_that_overlap_have_one_vote(workspace, state):
    random = np.random.default_rng(3)
    commit(workspace, [make_video(7, 0, 6, random, stride=4.0)])  # from 0, 4, 8, 12, 16 and 18 s
    fresh = replace(state, snapshot=SnapshotLoader(workspace).snapshot)

    judged = fresh.classify(VideoQuery("v7-0")).judged

    assert [clip.start_s for clip in judged.clips] == [0.0, 12.0, 18.0]
    assert sum(judged.verdict.votes) == 3
    assert (judged.evidence.clips_overlapping, judged.evidence.clips_outside_seizure) == (3, 0)
    (whole,) = fresh.classify_batch([VideoQuery("v7-0")]).results
    assert whole.judged.verdict == judged.verdict
    assert whole.judged.evidence.clips_overlapping == 3


@pytest.mark.parametrize(
    ("origin", "trained", "kind"),
    [
        ("random initial weights, seed 0", False, "random"),
        ("stage 0: 6500 steps on 24000 simulated actions; explains 0.64 of it", True, "simulated"),
        ("stage 0: x; pretrained by the demo for 9 steps on simulated videos, seed 0", True, "simulated"),
        ("stage 0: x; pretrained (both) on 900 clips of 40 patients", True, "pretrained"),
        ("imported from an original TimeSformer checkpoint", True, "imported"),
    ],
)
def test_where_weights_come_from_is_one_word(origin, trained, kind):
    assert kind_of(origin, trained=trained) == kind
    assert bool(what_it_means(kind)) == (kind in {"random", "simulated"})


def test_the_kind_is_read_from_the_weights_alone(workspace):
    encoder = new_encoder(tiny_architecture(), seed=0)
    install_encoder(encoder, workspace.encoders)

    assert stored_kind(workspace.encoders, encoder.encoder_id) == encoder.kind == "random"
    assert stored_kind(workspace.encoders, "0" * 16) == ""
    (workspace.encoders / encoder.encoder_id / "model.safetensors").write_bytes(b"torn")
    assert stored_kind(workspace.encoders, encoder.encoder_id) == ""


def test_the_shipped_encoder_is_named_as_what_it_is():
    encoder = shipped_encoder()

    assert encoder.kind == "simulated"
    assert (shipped_folder() / "README.md").read_text().startswith(f"# Encoder {encoder.encoder_id}\n")
