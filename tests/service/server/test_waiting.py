"""A server without an index: it says so until there is one, and then serves."""

import json
import signal
import socket
import subprocess

import pytest

from index.errors import ServiceError
from index.query import VideoQuery
from index.workspace import Workspace
from service.calling.connection import Connection
from service.calling.health import health_of
from service.client import Client
from tests.conftest import commit, make_cohort, publish_all
from tests.forge import Forged, run
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def status(port):
    try:
        return health_of(Connection(f"127.0.0.1:{port}", 1.0))
    except ServiceError:
        return ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_waits_for_its_first_index(tmp_path, port, workers):
    workspace = Workspace(tmp_path / "workspace")
    command = ("serve", "-w", workspace.root, "--port", str(port), "--wait-for-index", "--workers", workers, "--json")
    with Forged(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: status(port) == "NOT_SERVING")
            asked = ("health", "--server", f"127.0.0.1:{port}", "--json")
            assert run(*asked).returncode == 4
            assert run(*asked, "--alive").returncode == 0
            commit(workspace, make_cohort())
            publish_all(workspace)
            said = json.loads(server.stdout.readline())
            assert said["clips"] == 60
            with Client(said["address"]) as client:
                assert client.search(VideoQuery("v0-0")).neighbours
            assert status(port) == "SERVING"
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE_S) == 0
        finally:
            server.kill()


def test_one_that_waits_ends_when_it_is_asked_to(tmp_path, port):
    command = ("serve", "-w", tmp_path / "workspace", "--port", str(port), "--wait-for-index")
    with Forged(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: status(port) == "NOT_SERVING")
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE_S) == 0
        finally:
            server.kill()
