"""A real server process on a free port, and real clients."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from pydantic import ValidationError

from index.custody.erasure import erase_patient
from index.errors import NotFound, ServiceError
from index.query import ClipQuery, GroupBy, Options, SearchFilter, VectorQuery, VideoQuery
from index.records import Provenance
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.search.snapshot import Snapshot
from index.workspace import Workspace
from protos import admin_pb2, retrieval_pb2, retrieval_pb2_grpc
from service.client import Client
from service.config import ServerConfig
from service.metadata import DETAILS
from service.serving.watcher import StateWatcher
from tests import forge
from tests.conftest import commit, install_head, make_cohort, make_video, publish_all
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A served workspace: (workspace, its head, what the server said of itself)."""
    workspace = Workspace(tmp_path_factory.mktemp("served") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    head = install_head(workspace)
    with running(workspace) as said:
        yield workspace, head, said


@pytest.fixture
def client(served):
    with Client(served[2]["address"]) as client:
        yield client


def snapshot(served) -> Snapshot:
    return SnapshotLoader(served[0]).snapshot


def test_it_says_what_it_serves(served):
    _, head, said = served
    assert said["encoder_id"] == "enc1"
    assert said["generation"] == snapshot(served).name
    assert (said["head_id"], said["clips"]) == (head.head_id, 60)
    assert said["address"].startswith("127.0.0.1:")


@pytest.mark.parametrize("group_by", GroupBy)
def test_search_answers_what_the_snapshot_finds(served, client, group_by):
    query = VideoQuery("v1-1")
    where = SearchFilter(labels=frozenset({"TLE"}))

    answer = client.search(query, 5, Options(where, group_by))

    wanted = search(snapshot(served), query, 5, Options(where, group_by))
    assert answer.neighbours == tuple(
        replace(n, similarity=pytest.approx(n.similarity, abs=1e-6)) for n in wanted.neighbours
    )
    assert answer.provenance == replace(wanted.provenance, head_id=served[1].head_id)


def test_search_by_clip_and_by_vector_agree(served, client):
    clip, vectors = snapshot(served).clips_of(ClipQuery(make_cohort()[0][1][0].clip.clip_id))

    by_clip = client.search(ClipQuery(clip[0].clip_id), 60)
    by_vector = client.search(VectorQuery(vectors[0] * 3, "enc1", "p0"), 60)
    assert [n.clip for n in by_clip.neighbours] == [n.clip for n in by_vector.neighbours]
    assert "p0" not in {n.clip.patient_id for n in by_clip.neighbours}


def test_classify_answers_what_the_head_says(served, client):
    clips, vectors = snapshot(served).clips_of(VideoQuery("v2-0"))

    answer = client.classify(VideoQuery("v2-0"))

    assert answer.judged.clips == clips
    wanted = served[1].classify(vectors, "enc1")
    assert (answer.judged.verdict.label, answer.judged.verdict.votes) == (wanted.label, wanted.votes)
    assert answer.judged.verdict.probabilities == pytest.approx(wanted.probabilities)


def test_an_empty_id_is_named_as_the_wrong_field(served):
    with grpc.insecure_channel(served[2]["address"]) as channel:
        erase = channel.unary_unary(
            "/semiome.v1.AdminService/ErasePatient", admin_pb2.ErasePatientRequest.SerializeToString
        )
        with pytest.raises(grpc.RpcError) as caught:
            erase(admin_pb2.ErasePatientRequest(), timeout=PATIENCE_S)

    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())[DETAILS])
    (bad,) = (part for part in status.details if part.Is(error_details_pb2.BadRequest.DESCRIPTOR))
    assert error_details_pb2.BadRequest.FromString(bad.value).field_violations[0].field == "patient_id"


def test_a_batch_has_a_status_for_each_item(client):
    clip = make_cohort()[0][1][0].clip.clip_id
    answer = client.classify_batch([VideoQuery("v2-0"), VideoQuery("absent"), ClipQuery(clip), ClipQuery("x")])

    assert [result.code for result in answer.results] == ["OK", "NOT_FOUND", "OK", "NOT_FOUND"]
    assert answer.results[0].judged.verdict == client.classify(VideoQuery("v2-0")).judged.verdict
    assert "that video is not stored" in answer.results[1].message


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        (lambda c: c.search(ClipQuery("x")), "NOT_FOUND", "clip (not shown) is not stored"),
        (lambda c: c.search(VideoQuery("x")), "NOT_FOUND", "that video is not stored"),
        (lambda c: c.search(VideoQuery("v0-0"), 0), "INVALID_ARGUMENT", "expected k of 1 to 1000, got 0"),
        (lambda c: c.search(VideoQuery("v0-0"), 1001), "INVALID_ARGUMENT", "expected k of 1 to 1000, got 1001"),
        (
            lambda c: c.search_batch([VideoQuery("v0-0")] * 101, 1000),
            "INVALID_ARGUMENT",
            "at most 100000 hits and matches for all queries of a batch, got 101000",
        ),
        (
            lambda c: c.search_batch([VideoQuery("v0-0")] * 11, 1000, Options(group_by=GroupBy.VIDEO, aligned=True)),
            "INVALID_ARGUMENT",
            "at most 100000 hits and matches for all queries of a batch, got 110000",
        ),
        (lambda c: c.search(VectorQuery(np.ones(3), "enc1")), "INVALID_ARGUMENT", "vector of 8 values, got 3"),
        (lambda c: c.search(VectorQuery(np.full(8, np.nan), "enc1")), "INVALID_ARGUMENT", "finite"),
        (lambda c: c.search(VectorQuery(np.full(8, np.inf), "enc1")), "INVALID_ARGUMENT", "finite"),
        (lambda c: c.search(VectorQuery(np.zeros(8), "enc1")), "INVALID_ARGUMENT", "zero length"),
        (lambda c: c.search(VectorQuery(np.ones(8), "fedcba9876543210")), "FAILED_PRECONDITION", "fedcba9876543210"),
        (lambda c: c.search(VectorQuery(np.ones(8), "")), "INVALID_ARGUMENT", "id of the encoder"),
        (lambda c: c.classify(ClipQuery("x")), "NOT_FOUND", "clip (not shown)"),
        (lambda c: c.classify_batch([]), "INVALID_ARGUMENT", "expected 1 to 1000 items, got 0"),
        (lambda c: c.classify_batch([ClipQuery("x")] * 1001), "INVALID_ARGUMENT", "got 1001"),
        (lambda c: c.search(ClipQuery("x" * 5 * 2**20)), "RESOURCE_EXHAUSTED", ""),
    ],
)
def test_bad_requests_get_their_status_and_say_what_was_expected(client, call, code, says):
    with pytest.raises(ServiceError) as caught:
        call(client)

    assert caught.value.code == code
    assert says in str(caught.value)


def test_an_empty_request_is_refused(served):
    with grpc.insecure_channel(served[2]["address"]) as channel, pytest.raises(grpc.RpcError) as caught:
        retrieval_pb2_grpc.RetrievalServiceStub(channel).Search(retrieval_pb2.SearchRequest())

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_that_are_no_message_do_not_harm_the_server(served, client):
    with grpc.insecure_channel(served[2]["address"]) as channel:
        call = channel.unary_unary("/semiome.v1.RetrievalService/Search")
        for garbage in (b"\xff" * 100, b"\x0a\xff\xff", b"\x08", b"\x0a\x01\xff"):
            with pytest.raises(grpc.RpcError) as caught:
                call(garbage, timeout=PATIENCE_S)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details() == "the request is not a message of this method"

    assert client.search(VideoQuery("v0-0")).neighbours


def test_health_and_reflection(served):
    with grpc.insecure_channel(served[2]["address"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "semiome.v1.RetrievalService", "semiome.v1.ClassificationService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        names = ProtoReflectionDescriptorDatabase(channel).get_services()

    assert {"semiome.v1.RetrievalService", "semiome.v1.ClassificationService", "grpc.health.v1.Health"} <= set(names)


def test_a_deadline_that_has_passed_is_said(served):
    """By a server that is held: however short a deadline, one that runs may answer before it."""
    os.kill(served[2]["pid"], signal.SIGSTOP)
    try:
        with Client(served[2]["address"], timeout_s=0.3) as client, pytest.raises(ServiceError) as caught:
            client.search(VideoQuery("v0-0"))
    finally:
        os.kill(served[2]["pid"], signal.SIGCONT)

    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_no_server_says_how_to_start_one():
    with Client("127.0.0.1:9", timeout_s=5) as client, pytest.raises(ServiceError, match="semiome serve"):
        client.search(VideoQuery("v0-0"))


def test_a_new_generation_and_a_new_head_are_taken_up_without_a_failed_call(workspace):
    commit(workspace, make_cohort())
    first = publish_all(workspace).generation
    with running(workspace) as said, Client(said["address"]) as client:
        assert client.search(VideoQuery("v0-0")).provenance == Provenance("enc1", first, "", 2)
        with pytest.raises(ServiceError, match="FAILED_PRECONDITION: no head is loaded"):
            client.classify(VideoQuery("v0-0"))
        commit(workspace, [make_video(8, 0, 2, np.random.default_rng(8))])
        second = publish_all(workspace).generation
        head = install_head(workspace)
        last = Provenance("enc1", second, head.head_id, 3)
        until(lambda: client.search(VideoQuery("v0-0")).provenance == last)
        assert len(client.classify(VideoQuery("v8-0")).judged.clips) == 2


def test_a_damaged_generation_is_not_taken_up_and_the_old_one_serves(workspace):
    commit(workspace, make_cohort())
    first = publish_all(workspace).generation
    with running(workspace) as said, Client(said["address"]) as client:
        second = publish_all(workspace).generation
        os.truncate(workspace.generations / second / "vectors.npy", 100)
        time.sleep(2.5)
        # It may have loaded the second one in the moment before it was damaged; either serves whole answers.
        assert client.search(VideoQuery("v0-0")).provenance.generation in {first, second}


def test_a_port_that_is_taken_is_said(served):
    port = served[2]["address"].split(":")[1]
    done = forge.run("serve", "-w", served[0].root, "--port", port)

    assert done.returncode == 4
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_whatever_goes_wrong_with_something_newer_the_old_keeps_serving(stored, caplog):
    install_head(stored)
    watcher = StateWatcher(stored)
    before = watcher.state
    for spoiled in (b"\xff\xfe", b"000009-absent"):
        (stored.generations / "CURRENT").write_bytes(spoiled)
        watcher.refresh()
        watcher.refresh()
    (stored.generations / "CURRENT").write_text(before.snapshot.name)
    shutil.rmtree(stored.store / "videos.lance" / "_versions")
    watcher.refresh()

    assert watcher.state is before
    assert len(caplog.records) == 3  # each trouble once, not at every look
    assert str(stored.root) not in caplog.text


def test_a_head_of_another_encoder_is_refused_by_name(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace, encoder_id="other")
    with (
        running(workspace, end=signal.SIGINT) as said,
        Client(said["address"]) as client,
        pytest.raises(ServiceError, match=r"FAILED_PRECONDITION: .*encoder other"),
    ):
        client.classify(VideoQuery("v0-0"))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_without_tls_only_loopback_is_served(host):
    with pytest.raises(ValidationError):
        ServerConfig(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_addresses_are_served(host):
    assert ServerConfig(host=host).host == host


def test_an_erased_patient_is_found_no_more_even_where_the_new_index_can_not_be_taken_up(stored):
    watcher = StateWatcher(stored)
    erase_patient(stored, "p1")
    (stored.generations / "CURRENT").write_text("000009-absent")
    watcher.refresh()

    with pytest.raises(NotFound):
        watcher.state.search(VideoQuery("v1-0"), 1)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_nothing(stored, closed):
    """Else the next file that is opened takes their numbers, and the server ends with an abort."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"exec {sys.executable} -m semiome serve -w {stored.root} --port {port} {closed}"
    with subprocess.Popen(["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: server.poll() is not None or answers(port))
            server.terminate()
            assert server.wait(PATIENCE_S) == 0
        finally:
            server.kill()


def answers(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
