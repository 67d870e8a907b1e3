"""What a caller types where it does not belong, and whose data was read, stands nowhere that it should not."""

import json
import socket
import urllib.request
from dataclasses import replace
from functools import cache

import grpc
import numpy as np
import pytest

from index.query import ClipQuery, GroupBy, Options, VideoQuery
from index.workspace import Workspace
from service.audit.trail import folder_of
from service.client import Client
from tests import forge
from tests.conftest import commit, install_head, install_signs, make_video, publish_all
from tests.service.gate.attackers import METHODS, outcome, raw_calls, request_class, serving, with_one_string
from tests.waiting import PATIENCE_S, until

CANARY = "Erika Mustermann-Canary"
PSEUDONYMS = tuple(f"pat-canary-{number:04d}" for number in range(1, 5))
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
GOOD = {
    "Search": {"query": {"video_id": "v1-0"}},
    "SearchBatch": {"queries": [{"video_id": "v1-0"}]},
    "SearchStream": {"query": {"video_id": "v1-0"}},
    "Recommend": {"positive": [{"video_id": "v1-0"}]},
    "FindMoments": {"query": {"video_id": "v1-0"}},
    "GetSimilarity": {"query": {"video_id": "v1-0"}, "video_id": "v1-0"},
    "GetRecording": {"video_id": "v1-0"},
    "SearchByVideo": {"header": {"size_bytes": 64}},
    "ClassifyBatch": {"items": [{"video_id": "v1-0"}]},
    "GetSigns": {"video_id": "v1-0"},
    "ListVideos": {"page_size": 1},
}
"""What makes a request good but for what is added to it."""


def cohort():
    """4 patients with pseudonyms that can be looked for."""
    random = np.random.default_rng(0)
    made = []
    for number, patient in enumerate(PSEUDONYMS):
        for video, clips in (make_video(number, n, 3, random) for n in range(2)):
            theirs = [replace(one, clip=replace(one.clip, patient_id=patient)) for one in clips]
            made.append((replace(video, patient_id=patient), theirs))
    return made


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with metrics, its workspace, and what reads the metrics: (workspace, served, metrics)."""
    workspace = Workspace(tmp_path_factory.mktemp("canary") / "workspace")
    commit(workspace, cohort())
    publish_all(workspace)
    install_head(workspace)
    install_signs(workspace, ("Semiology-tonic",))
    port = free_port()

    def metrics():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    with serving(workspace, "--metrics-port", str(port)) as served:
        yield workspace, served, metrics


def requests_with(name, text):
    """Requests of a method, as bytes: each with the text in one field, bare and in an otherwise good request."""
    kind, good = request_class(name), GOOD.get(name.rsplit("/", 1)[1])
    for said in with_one_string(METHODS[name].input_type, text, depth=3):
        for base in ({}, good) if good else ({},):
            message = kind(**base)
            message.MergeFrom(kind(**said))
            yield message.SerializeToString()


def ended_operations(client):
    """All operations, when none runs any more."""
    until(lambda: all(one.state != "running" for one in client.operations()))
    return client.operations()


def files_with(folder, text):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and holds(path, text))


def holds(path, text):
    return text.encode() in path.read_bytes()


@pytest.fixture(scope="module")
def asked(served):
    """`asked(method)` is what the server says to requests with a canary in every field: [(code, all that is said)]."""
    metadata = (("x-patient", CANARY), ("note-bin", CANARY.encode()))
    seen = (*metadata, ("semiome-seen", f"{CANARY}/1"))  # waits for the next look at the store: once a method is enough
    with grpc.insecure_channel(served[1].address, [("grpc.primary_user_agent", CANARY)]) as channel:

        @cache
        def ask(name):
            if name == "unknown":
                return [outcome(channel, f"/semiome.v1.RetrievalService/{CANARY.replace(' ', '')}")]
            said = [outcome(channel, name, [data], metadata=metadata) for data in requests_with(name, CANARY)]
            said.append(outcome(channel, name, [CANARY.encode()], metadata=seen))
            said += (outcome(channel, name, parts, metadata=metadata) for parts in uploads() if name == UPLOAD)
            return said

        yield ask


@pytest.fixture(scope="module")
def told(served, asked):
    """All methods have been asked, and nothing that they began goes on: {method: answers}."""
    said = {name: asked(name) for name in (*METHODS, "unknown")}
    with Client(served[1].address) as client:
        ended_operations(client)
    return said


UPLOAD = "/semiome.v1.RetrievalService/SearchByVideo"


def uploads():
    """A file that is no video and holds the name, kept or not."""
    kind, data = request_class(UPLOAD), CANARY.encode() * 20
    for header in ({"patient_id": PSEUDONYMS[0]}, {"patient_id": PSEUDONYMS[0], "store_as_video_id": "v9-9"}):
        first = kind(header={**header, "size_bytes": len(data)})
        yield [first.SerializeToString(), kind(chunk=data).SerializeToString()]


def test_every_method_that_takes_a_text_was_given_one(told):
    assert {name for name, answers in told.items() if len(answers) < 2} == {
        "unknown",
        *(f"/semiome.v1.AdminService/{verb}" for verb in ("GetStatus", "BuildGeneration", "ListGenerations")),
        *(f"/semiome.v1.AdminService/{verb}" for verb in ("RollBackGeneration", "ListHeads", "ListOperations")),
        "/semiome.v1.CatalogService/GetCounts",
        *(f"/semiome.v1.ReviewService/{verb}" for verb in ("GetCaller", "GetMap", "ListReports")),
    }


@pytest.mark.parametrize("name", [*METHODS, "unknown"])
def test_no_status_repeats_what_a_caller_typed(asked, name):
    quotes = name == REFLECTION  # by its protocol, to the caller alone

    assert [said for code, said in asked(name) if CANARY.encode() in said and not (quotes and code == "OK")] == []


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", [*METHODS])
def test_nothing_that_a_caller_types_is_a_bug(asked, name):
    assert {code for code, _ in asked(name)}.isdisjoint({"INTERNAL", "UNKNOWN"})


def test_no_file_of_the_workspace_holds_what_a_caller_typed(served, told):
    assert files_with(served[0].root, CANARY) == []
    assert files_with(served[0].root, "Mustermann") == []


def test_neither_the_log_nor_the_metrics_hold_what_a_caller_typed(served, told):
    _, process, metrics = served

    assert "Mustermann" not in process.log.read_text() + metrics()
    assert "grpc_server_handled_total" in metrics()


@pytest.mark.parametrize("key", [b"x-patient", b"authorization", b"semiome-seen", b"traceparent"])
def test_the_log_holds_no_metadata_even_where_it_is_no_text(served, told, key):
    _, process, _ = served
    raw_calls(process.address, 1, "/semiome.v1.CatalogService/GetCounts", (key, CANARY.encode() + b"\xff"))

    assert "Mustermann" not in process.log.read_text()


def test_no_operation_says_whom_somebody_wanted_to_erase(served, told):
    with Client(served[1].address) as client:
        operations = ended_operations(client)

    assert "failed" in {one.state for one in operations if one.kind == "erase"}
    assert "Mustermann" not in str(operations)


@pytest.fixture(scope="module")
def read(served, told):
    """The cohort's patients were asked about in every way, also wrongly."""
    with Client(served[1].address) as client:
        for group_by in GroupBy:
            client.search(VideoQuery("v0-0"), 20, Options(group_by=group_by))
        clip = client.video("v0-0").clips[0].clip_id
        client.search(ClipQuery(clip))
        client.embeddings([clip])
        client.classify(VideoQuery("v0-0"))
        list(client.videos())
        list(client.patients())
        list(client.search_stream([ClipQuery(clip), ClipQuery("x")]))
    with grpc.insecure_channel(served[1].address) as channel:
        for name in METHODS:
            for data in requests_with(name, PSEUDONYMS[3]):
                if not name.endswith("ErasePatient"):
                    outcome(channel, name, [data])


def test_pseudonyms_stand_in_no_log_no_metric_and_no_audit_line(served, read):
    workspace, process, metrics = served
    audited = "".join(path.read_text() for path in folder_of(workspace).glob("*.jsonl"))

    assert "pat-canary" not in process.log.read_text() + metrics() + audited
    assert audited.count("\n") > 50


def test_the_access_report_finds_a_patient_by_the_pseudonym(served, read):
    done = forge.run("audit", "report", "-w", served[0].root, "--json", "--patient", PSEUDONYMS[0])
    assert done.returncode == 0, done.stderr

    methods = {line["method"].rsplit("/", 1)[1] for line in json.loads(done.stdout)["accesses"]}
    assert methods >= {"Search", "GetVideo", "GetEmbeddings", "Classify", "ListVideos", "ListPatients", "SearchStream"}


def test_an_erased_patient_is_in_no_file_and_no_log(served, read):
    workspace, process, metrics = served
    patient = PSEUDONYMS[0]
    assert files_with(workspace.root, patient) != []
    with Client(process.address) as client:
        done = client.wait(client.erase_patient(patient))

    assert done.state == "done"
    assert files_with(workspace.root, patient) == []
    assert patient not in process.log.read_text() + metrics() + str(done)
