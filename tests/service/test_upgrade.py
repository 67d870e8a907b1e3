"""A workspace that version 0.1.0 wrote, opened by this one: it answers the same, and goes on to work.

`tests/data/workspace-0.1.0.json` holds what that version itself answered. The workspace has two generations, a head, an
erased patient, a corrected video and a note.
"""

import json
import tarfile

import numpy as np
import pytest

from index.doctor import examine
from index.erasure import erase_patient
from index.feedback import FeedbackStore
from index.query import GroupBy, Options, VideoQuery
from index.store import Store
from index.workspace import Workspace
from service.source import Source
from tests.conftest import DATA, commit, make_video, publish_all

SAID = json.loads((DATA / "workspace-0.1.0.json").read_text())


@pytest.fixture
def old(tmp_path):
    filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.11.4
    with tarfile.open(DATA / "workspace-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path / "workspace", **filtered)
    return Workspace(tmp_path / "workspace")


def test_it_serves_the_same_index_and_head(old):
    provenance = Source(old).knowledge.provenance

    assert (provenance.encoder_id, provenance.generation) == (SAID["encoder_id"], SAID["generation"])
    assert (provenance.head_id, provenance.table_version) == (SAID["head_id"], SAID["table_version"])


@pytest.mark.parametrize("group_by", GroupBy)
def test_every_search_finds_what_it_found(old, group_by):
    knowledge = Source(old).knowledge
    for video in knowledge.snapshot.videos:
        found = knowledge.search(VideoQuery(video), 5, Options(group_by=group_by)).neighbours
        expected = SAID["searches"][f"{video} {group_by!s}"]

        assert [[n.clip.clip_id, n.clip.video_id, n.clip.patient_id, n.label] for n in found] == [
            e[:4] for e in expected
        ]
        assert [n.similarity for n in found] == pytest.approx([similarity for *_, similarity in expected], abs=1e-6)


def test_every_verdict_is_what_it_was(old):
    knowledge = Source(old).knowledge

    assert set(knowledge.snapshot.videos) == set(SAID["verdicts"])
    for video, (label, probability, votes, sets) in SAID["verdicts"].items():
        judged = knowledge.classify(VideoQuery(video)).judged
        said = judged.evidence.prediction_set
        assert (judged.verdict.label, list(judged.verdict.votes)) == (label, votes)
        assert judged.verdict.probability == pytest.approx(probability, abs=1e-6)
        assert (list(said.labels) if said else None) == sets


NEW = {"disk space", "the erased"}
"""Findings that change, or that version 0.1 did not have."""


def test_it_is_found_whole_and_taken_further(old):
    found = [[finding.what, finding.state] for finding in examine(old) if finding.what not in NEW]
    assert found == SAID["doctor"]
    assert [note.note for note in FeedbackStore(old).all()] == ["looks left"]

    encoder_id = SAID["encoder_id"]
    before = Store(old).videos()
    commit(old, [new := make_video(9, 0, 2, np.random.default_rng(9), 768)], encoder_id)
    assert Store(old).videos() == before | {"v9-0": new[0]}
    assert new[0].metadata
    publish_all(old, encoder_id)
    assert "v9-0" in Source(old).knowledge.snapshot.videos
    assert erase_patient(old, "p3")["scan"]["files_with_finds"] == ()
    assert {video.patient_id for video in Source(old).knowledge.snapshot.videos.values()}.isdisjoint({"p3", "p7"})
