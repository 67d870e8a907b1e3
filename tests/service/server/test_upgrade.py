"""Workspaces that earlier versions wrote, opened by this one: they answer the same, and can be worked with.

`tests/data/workspace-VERSION.json` holds what that version itself answered. Each workspace has two generations, a head,
an erased patient and notes; that of 0.2.0 has an audit log too.
"""

import json
import tarfile

import numpy as np
import pytest

from index.custody.doctor import examine
from index.custody.erasure import erase_patient
from index.feedback.store import FeedbackStore
from index.query import GroupBy, Options, VideoQuery
from index.tables.blocklist import erased_among
from index.tables.store import Store
from index.workspace import Workspace
from service.audit import trail as audit_trail
from service.serving.watcher import StateWatcher
from tests.conftest import DATA, commit, make_video, publish_all

VERSIONS = {version: json.loads((DATA / f"workspace-{version}.json").read_text()) for version in ("0.1.0", "0.2.0")}
NEW = {"access", "disk space", "the erased"}
"""Findings that depend on the machine, or that version 0.1.0 did not have."""


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def answered(version):
    """What that version itself answered."""
    return VERSIONS[version]


@pytest.fixture
def old(tmp_path, version):
    filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.11.4
    with tarfile.open(DATA / f"workspace-{version}.tar.gz") as archive:
        archive.extractall(tmp_path / "workspace", **filtered)
    return Workspace(tmp_path / "workspace")


def test_it_serves_the_same_index_and_head(old, answered):
    provenance = StateWatcher(old).state.provenance

    assert (provenance.encoder_id, provenance.generation) == (answered["encoder_id"], answered["generation"])
    assert (provenance.head_id, provenance.table_version) == (answered["head_id"], answered["table_version"])


@pytest.mark.parametrize("group_by", GroupBy)
def test_every_search_finds_what_it_found(old, answered, group_by):
    state = StateWatcher(old).state
    for video in state.snapshot.videos:
        found = state.search(VideoQuery(video), 5, Options(group_by=group_by)).neighbours
        expected = answered["searches"][f"{video} {group_by!s}"]

        assert [[n.clip.clip_id, n.clip.video_id, n.clip.patient_id, n.label] for n in found] == [
            e[:4] for e in expected
        ]
        assert [n.similarity for n in found] == pytest.approx([similarity for *_, similarity in expected], abs=1e-6)


def test_every_verdict_is_what_it_was(old, answered):
    state = StateWatcher(old).state

    assert set(state.snapshot.videos) == set(answered["verdicts"])
    for video, (label, probability, votes, sets) in answered["verdicts"].items():
        judged = state.classify(VideoQuery(video)).judged
        said = judged.evidence.prediction_set
        assert (judged.verdict.label, list(judged.verdict.votes)) == (label, votes)
        assert judged.verdict.probabilities[1] == pytest.approx(probability, abs=1e-6)
        assert (list(said.labels) if said else None) == sets


def test_its_notes_and_its_audit_log_are_read(old, answered):
    notes = [[n.video_id, n.relevance, n.label, list(n.semiology), n.note, n.author] for n in FeedbackStore(old).all()]
    assert notes == answered["notes"]
    assert erased_among(old, {"p0", "p1", *answered["erased"]}) == set(answered["erased"])
    if answered["seen"]:
        assert [[line["caller"], line["method"]] for line in audit_trail.of_patient(old, "p1")] == answered["seen"]


def test_it_is_found_whole_and_taken_further(old, answered):
    found = [[finding.what, finding.state] for finding in examine(old) if finding.what not in NEW]
    assert found == [finding for finding in answered["doctor"] if finding[0] not in NEW]

    encoder_id = answered["encoder_id"]
    before = Store(old).videos()
    commit(old, [new := make_video(9, 0, 2, np.random.default_rng(9), 768)], encoder_id)
    assert Store(old).videos() == before | {"v9-0": new[0]}
    assert new[0].metadata
    publish_all(old, encoder_id)
    assert "v9-0" in StateWatcher(old).state.snapshot.videos
    assert erase_patient(old, "p3")["scan"]["files_with_finds"] == ()
    served = {video.patient_id for video in StateWatcher(old).state.snapshot.videos.values()}
    assert served.isdisjoint({"p3", *answered["erased"]})
