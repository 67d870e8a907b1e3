"""`semiome health`, as a probe runs it: one word, one exit code."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from index.errors import ServiceError
from semiome.__main__ import exit_code
from semiome.app import app
from service.calling.connection import Connection
from service.calling.health import health_of


@pytest.fixture
def said():
    """A server that says of its health what it is told to: (address, what tells it)."""
    server = grpc.server(ThreadPoolExecutor(1))
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", lambda state: healthy.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(state))
    server.stop(0).wait()


@pytest.mark.parametrize(("state", "code"), [("SERVING", 0), ("NOT_SERVING", 4), ("UNKNOWN", 4)])
def test_the_exit_code_says_whether_calls_are_answered(said, state, code):
    address, say = said
    say(state)

    done = CliRunner().invoke(app, ["health", "--server", address, "--json"])

    assert done.exit_code == code
    assert json.loads(done.stdout) == {"server": address, "service": "", "status": state}


def test_a_server_that_is_away_is_a_state_and_no_bug():
    with pytest.raises(ServiceError, match="no server answers") as caught:
        health_of(Connection("127.0.0.1:9", timeout_s=5))

    assert exit_code(caught.value) == 4


def test_a_server_that_hangs_is_waited_for_no_longer_than_said():
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(ServiceError) as caught:
        health_of(Connection(f"127.0.0.1:{deaf.getsockname()[1]}", timeout_s=0.2))

    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_service_that_does_not_exist_is_wrong_input(said):
    with pytest.raises(ServiceError) as caught:
        health_of(Connection(said[0]), "semiome.v1.NoSuchService")

    assert exit_code(caught.value) == 2
