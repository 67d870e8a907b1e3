"""Two hosts, each with a server of its own over one workspace on object storage, and one of them away for a while."""

import json
import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from index.custody.erasure import erase_patient
from index.feedback.store import Feedback, FeedbackStore
from index.files.bucket import bucket
from index.files.kept_digests import KeptDigests
from index.query import ClipQuery
from index.records import Clip, EmbeddedClip, clip_id
from index.tables.store import Store
from index.tables.unfinished import Unfinished
from index.workspace import Workspace
from semiome.app import app
from service.audit.trail import of_patient, verify
from service.client import Client
from service.errors import ServiceError
from tests import forge
from tests.conftest import DATA, install_head, make_cohort, make_video
from tests.index.files.test_objects import build, commit, s3, use
from tests.service.servers import running
from tests.waiting import PATIENCE_S

PATIENT = "pat-mine-0007"


@pytest.fixture(scope="module")
def address():
    with s3() as server:
        yield server


@pytest.fixture
def hosts(address, tmp_path, monkeypatch, request):
    """`host(name)`: the workspace as the host of that name sees it, from now on also for processes."""
    use(monkeypatch, address)

    def host(name):
        monkeypatch.setenv("SEMIOME_LOCAL", str(tmp_path / name))
        return Workspace.at("s3://clips/" + re.sub(r"\W+", "-", request.node.name).strip("-"))

    video, clips = make_video(7, 0, 4, np.random.default_rng(3))
    clips = [replace(one, clip=replace(one.clip, patient_id=PATIENT)) for one in clips]
    commit(host("one"), [*make_cohort(patients=3), (replace(video, patient_id=PATIENT), clips)])
    build(host("one"))
    yield host
    bucket.cache_clear()


def kept_by(host):
    """A host's feedback, a preview of the patient's video and one of another's, as jobs there have left them."""
    workspace = host("two")
    store = FeedbackStore(workspace)
    store.save(Feedback("v7-0", PATIENT, label="TLE", note="left arm first"), "anna")
    store.save(Feedback("v0-0", "p0", label="TLE", note=f"as {PATIENT}, only slower"), "anna")
    other = store.save(Feedback("v1-0", "p1", label="exTLE"), "bert")
    for video in ("v7-0", "v1-0"):
        (workspace.previews / video).mkdir(parents=True)
        (workspace.previews / video / "film.mp4").write_bytes(b"a film")
    source = "7" * 64
    clip = Clip(clip_id(source, "v7-1", 0.0), "v7-1", PATIENT, 0, 0.0, 10.0)
    Unfinished(workspace).keep("enc1", source, EmbeddedClip(clip, np.ones(8, np.float32)))
    KeptDigests(workspace.digests).keep(DATA / "videos" / "short_7s.mp4", ("7s",), 0, source, PATIENT)
    return other


def holding(host, name):
    """Files of a host that hold the patient's id or, in their name, their video's."""
    found = []
    for path in host(name).root.rglob("*"):
        with suppress(FileNotFoundError):  # SQLite's journals come and go
            if path.is_file() and (PATIENT.encode() in path.read_bytes() or "v7-0" in str(path)):
                found.append(path)
    return found


def until(wanted):
    end = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("away", [False, True], ids=["serving", "away"])
def test_what_one_host_erases_goes_from_the_other_too(hosts, away):
    other = kept_by(hosts)
    assert len(holding(hosts, "two")) >= 3

    def erased():
        return erase_patient(hosts("one"), PATIENT)

    if away:
        with running(hosts("two")):
            pass
        receipt = erased()
        assert holding(hosts, "two")
    with running(hosts("two")) as server, Client(server["address"]) as client:
        if not away:
            assert "v7-0" in {video.video_id for video in client.videos()}
            receipt = erased()
        until(lambda: not holding(hosts, "two"))
        assert "v7-0" not in {video.video_id for video in client.videos()}
        assert PATIENT not in {patient.patient_id for patient in client.patients()}
        kept = list(client.feedback())
        assert [(one.video_id, one.label, one.note) for one in kept] == [("v0-0", "TLE", ""), ("v1-0", "exTLE", "")]
        assert kept[1].feedback_id == other.feedback_id
    assert [path.name for path in hosts("two").previews.iterdir()] == ["v1-0"]
    assert "what other hosts keep in $SEMIOME_LOCAL" in receipt["not_covered"]


def test_each_host_logs_what_was_read_of_it_and_both_together_tell_it_all(hosts):
    clip = make_cohort(patients=3)[0][1][0].clip
    for name, times in (("one", 2), ("two", 3)):
        with running(hosts(name)) as server, Client(server["address"]) as client:
            for _ in range(times):
                client.search(ClipQuery(clip.clip_id), 3)
    reads = {name: [line["method"] for line in of_patient(hosts(name), clip.patient_id)] for name in ("one", "two")}
    assert {name: len(lines) for name, lines in reads.items()} == {"one": 2, "two": 3}
    assert all(verify(hosts(name)).lines >= times for name, times in (("one", 2), ("two", 3)))
    result = CliRunner().invoke(app, ["audit", "verify", "-w", hosts("two").bucket, "--json"])
    assert json.loads(result.stdout)["last"] == verify(hosts("two")).last


def test_a_host_without_a_head_searches_gives_no_verdict_and_says_so(hosts):
    clip = make_cohort(patients=3)[0][1][0].clip
    head = install_head(hosts("one"))
    with running(hosts("one")) as server, Client(server["address"]) as client:
        assert client.classify(ClipQuery(clip.clip_id)).provenance.head_id == head.head_id
    with running(hosts("two")) as server, Client(server["address"]) as client:
        assert client.search(ClipQuery(clip.clip_id), 3).neighbours
        with pytest.raises(ServiceError, match="no head"):
            client.classify(ClipQuery(clip.clip_id))
        assert install_head(hosts("two")).head_id == head.head_id
        until(lambda: client.status().provenance.head_id == head.head_id)


@pytest.mark.needs("torch")
def test_a_new_host_brings_in_no_encoder_of_its_own(hosts, tmp_path):
    """Untrained weights beside those that all others search with would be published to all of them."""
    shutil.copy(DATA / "videos" / "short_7s.mp4", tmp_path)
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id\nshort_7s.mp4,p9,v9\n")
    workspace = hosts("three")
    done = forge.run("encode", str(tmp_path / "m.csv"), "-w", workspace.bucket)
    assert (done.returncode, done.stdout) == (4, "")
    assert "clips of encoder enc1 are stored, and this host has no encoder" in done.stderr
    assert Store(workspace).encoder_ids() == ("enc1",)
    assert not workspace.encoders.exists()
