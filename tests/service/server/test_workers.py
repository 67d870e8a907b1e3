"""Several workers on one port: one that dies is missed by nobody for long."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from index.errors import ServiceError
from index.query import ClipQuery, VideoQuery
from index.workspace import Workspace
from service.calling.connection import Connection
from service.client import Client
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.forge import Forged
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("workers") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    return workspace


def pids(address):
    with Client(address) as client:
        return {worker.pid for worker in client.status().workers}


def metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_killed_worker_comes_back_and_its_sibling_serves_meanwhile(workspace):
    port = free_port()
    with running(workspace, "--workers", "2", "--metrics-port", str(port)) as said:
        before = pids(said["address"])
        assert len(before) == 2
        stop, failed, answered = threading.Event(), [], [0]

        def ask():
            while not stop.is_set():
                with Client(Connection(said["address"], tries=8)) as client:
                    try:
                        client.search(VideoQuery("v0-0"))
                        answered[0] += 1
                    except ServiceError as error:
                        failed.append(error)

        asking = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
        for thread in asking:
            thread.start()
        until(lambda: answered[0])
        os.kill(min(before), signal.SIGKILL)

        def both():
            now = pids(said["address"])
            return now if len(now) == 2 and min(before) not in now else None

        now = until(both)
        until(lambda: answered[0] > 10)
        stop.set()
        for thread in asking:
            thread.join()
        counted = metrics(port)

    assert failed == []
    assert max(before) in now
    searches = (
        'grpc_server_handled_total{grpc_code="OK",grpc_method="Search",grpc_service="semiome.v1.RetrievalService"'
    )
    (line,) = (line for line in counted.splitlines() if line.startswith(searches))
    assert float(line.split()[-1]) >= answered[0]  # the killed worker's counts stay


def test_a_worker_that_is_stopped_is_noticed_and_replaced(workspace):
    settings = workspace.root.parent / "serve.toml"
    settings.write_text("late_s = 10\n")
    with running(workspace, "--workers", "2", "--config", str(settings)) as said:
        before = pids(said["address"])
        os.kill(min(before), signal.SIGSTOP)

        def both():
            with contextlib.suppress(ServiceError):  # a connection that the stopped one took in
                now = pids(said["address"])
                return len(now) == 2 and min(before) not in now
            return False

        until(both)
        assert not Path(f"/proc/{min(before)}").exists()


def test_workers_end_when_their_supervisor_is_killed(workspace):
    command = ("serve", "-w", workspace.root, "--port", "0", "--json", "--workers", "2")
    supervisor = Forged(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    workers = pids(json.loads(supervisor.stdout.readline())["address"])
    supervisor.kill()
    supervisor.communicate()

    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))


def test_sigterm_says_not_serving_and_lets_calls_in_flight_finish(workspace):
    with running(workspace) as said, grpc.insecure_channel(said["address"]) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        go, results = threading.Event(), []

        def items():
            yield VideoQuery("v0-0")
            go.wait(PATIENCE_S)
            yield ClipQuery(make_cohort()[0][1][0].clip.clip_id)

        def stream():
            with Client(said["address"]) as client:
                for one in client.search_stream(items()):
                    results.append(one.code)

        in_flight = threading.Thread(target=stream, daemon=True)
        in_flight.start()
        until(lambda: results)
        os.kill(said["pid"], signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with Client(Connection(said["address"], tries=1)) as late, pytest.raises(ServiceError) as caught:
            late.search(VideoQuery("v0-0"))
        watch.cancel()
        go.set()
        in_flight.join()

    assert results == ["OK", "OK"]
    assert caught.value.code in {
        "UNAVAILABLE",
        "CANCELLED",
    }  # gRPC's own, where it came just as the server began to end


def test_metrics_of_one_worker_count_what_it_did(workspace):
    port = free_port()
    with running(workspace, "--metrics-port", str(port)) as said, Client(said["address"]) as client:
        client.search(VideoQuery("v0-0"))
        client.classify(VideoQuery("v0-0"))
        with pytest.raises(ServiceError):
            client.search(VideoQuery("absent"))
        counted = metrics(port)

    search = 'grpc_method="Search",grpc_service="semiome.v1.RetrievalService",grpc_type="unary"'
    for line in (
        f"grpc_server_started_total{{{search}}} 2.0",
        "semiome_clips 60.0",
        "semiome_index_tail_clips 0.0",
    ):
        assert line in counted
    assert 'grpc_code="NOT_FOUND",grpc_method="Search"' in counted
    assert "semiome_verdicts_total{" in counted
    assert "semiome_index_age_seconds" in counted
    assert "v0-0" not in counted


def test_both_workers_take_up_a_new_index_and_nobody_goes_back(workspace):
    with running(workspace, "--workers", "2") as said:
        seen = [[] for _ in range(4)]
        stop = threading.Event()

        def ask(mine):
            connection = Connection(said["address"])
            while not stop.is_set():
                with Client(connection) as client:  # a new connection each time: perhaps to the other worker
                    mine.append(client.search(VideoQuery("v0-0")).provenance.generation)

        asking = [threading.Thread(target=ask, args=(mine,), daemon=True) for mine in seen]
        for thread in asking:
            thread.start()
        for _ in range(3):
            time.sleep(0.4)
            last = publish_all(workspace).generation
        until(lambda: all(mine and mine[-1] == last for mine in seen))
        stop.set()
        for thread in asking:
            thread.join()

    for mine in seen:
        assert mine == sorted(mine)
        assert len(set(mine)) >= 2
