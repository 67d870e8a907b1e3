"""Calls of which a half never comes: requests without an end, answers that nobody takes, searches given up."""

import struct
import threading
import time
from contextlib import ExitStack
from urllib.request import urlopen

import grpc
import pytest

from index.workspace import Workspace
from service.config import ServerConfig
from service.gate import middleware as guard
from service.methods import catalog
from service.methods.catalog import counts_of
from service.telemetry import metrics
from tests.conftest import commit, make_cohort, publish_all
from tests.service.gate.attackers import PREFACE, answering, code, connected, frame, headers, start
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until

COUNTS = "/semiome.v1.CatalogService/GetCounts"
CALLER = "/semiome.v1.ReviewService/GetCaller"


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    return workspace


# Requests that never end


def ended(received):
    """Streams that the other side has ended, in frames of HTTP/2."""
    found = set()
    while len(received) >= 9:
        size, kind, flags = int.from_bytes(received[:3]), received[3], received[4]
        if kind == 3 or (kind == 1 and flags & 1):
            found.add(int.from_bytes(received[5:9]))
        received = received[9 + size :]
    return found


def test_of_a_stranger_no_request_is_waited_for(secured, access):
    (access / "plain.toml").write_text('[tokens]\njwks = "jwks.json"\nissuer = "semiome"\naudience = "semiome"\n')
    half = b"\0" + struct.pack(">I", 2**20) + b"x" * 1000
    with running(secured, "--config", access / "plain.toml") as said, connected(said["address"]) as stranger:
        stranger.sendall(PREFACE + frame(4, 0, 0) + frame(4, 1, 0))
        for stream in range(1, 65, 2):
            stranger.sendall(frame(1, 4, stream, headers(COUNTS)) + frame(0, 0, stream, half))
        received = b""

        def refused():
            nonlocal received
            received += stranger.recv(65536)
            return len(ended(received)) == 32

        until(refused)


def test_a_request_that_never_ends_gives_its_place_back(workspace, monkeypatch):
    monkeypatch.setattr(guard, "_IDLE_S", 15.0)
    few = ServerConfig(port=0, max_calls=2)
    with answering(workspace, few) as address, grpc.insecure_channel(address) as channel, connected(address) as slow:
        slow.sendall(PREFACE + frame(4, 0, 0) + frame(4, 1, 0))
        streams = iter(range(1, 2**15, 2))

        def taken():
            for stream in (
                next(streams),
                next(streams),
            ):  # again and again: on a slow machine the first are over by now
                slow.sendall(frame(1, 4, stream, headers(COUNTS)) + frame(0, 0, stream, b"\0\0\0\xff\xff"))
            return code(channel, CALLER) == "RESOURCE_EXHAUSTED"

        until(taken)
        until(lambda: code(channel, CALLER) == "OK")


# Answers that nobody reads


NO_WINDOW = PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 0))
"""An HTTP/2 client that takes no byte of any answer."""


def test_answers_that_nobody_reads_hold_their_places(workspace):
    with answering(workspace, ServerConfig(port=0, max_calls=8)) as address, grpc.insecure_channel(address) as channel:
        with connected(address) as mute:
            calls = (
                frame(1, 4, stream, headers(COUNTS)) + frame(0, 1, stream, b"\0\0\0\0\0") for stream in range(1, 17, 2)
            )
            mute.sendall(NO_WINDOW + b"".join(calls))
            until(lambda: code(channel, COUNTS) == "RESOURCE_EXHAUSTED")
            time.sleep(0.5)
            assert code(channel, COUNTS) == "RESOURCE_EXHAUSTED"
        until(lambda: code(channel, COUNTS) == "OK")


def test_a_search_that_nobody_waits_for_holds_its_place(workspace, monkeypatch):
    begun, goes_on = threading.Semaphore(0), threading.Event()

    def slowly(state):
        begun.release()
        goes_on.wait(PATIENCE_S)
        return counts_of(state)

    monkeypatch.setattr(catalog, "counts_of", slowly)
    with answering(workspace, ServerConfig(port=0, max_calls=2)) as address, grpc.insecure_channel(address) as channel:
        given_up = [start(channel, COUNTS, [b""]) for _ in range(2)]
        for _ in given_up:
            assert begun.acquire(timeout=PATIENCE_S)
        for call in given_up:
            call.cancel()
        time.sleep(0.5)
        assert code(channel, CALLER) == "RESOURCE_EXHAUSTED"
        goes_on.set()
        until(lambda: code(channel, CALLER) == "OK")


def test_silent_connections_to_the_metrics_hold_few_threads_and_end(workspace, monkeypatch):
    monkeypatch.setattr(metrics, "_SCRAPE_S", 1.0)
    port, end = metrics.Metrics().serve(0)

    def answering_threads():
        return sum("process_request" in thread.name for thread in threading.enumerate())

    try:
        with ExitStack() as held:
            silent = [held.enter_context(connected(f"127.0.0.1:{port}")) for _ in range(300)]
            silent[0].sendall(b"GET /metrics HTTP/1.1\r\n")
            until(answering_threads)
            assert answering_threads() <= 2 * 8
            until(lambda: not answering_threads())
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
                assert b"semiome_clips" in answer.read()
    finally:
        end()


def test_who_asks_for_health_and_takes_no_answer_is_counted(workspace):
    check = "/grpc.health.v1.Health/Check"
    with answering(workspace, ServerConfig(port=0)) as address, grpc.insecure_channel(address) as channel:
        with ExitStack() as held:
            for _ in range(2):
                mute = held.enter_context(connected(address))
                calls = (
                    frame(1, 4, stream, headers(check)) + frame(0, 1, stream, b"\0\0\0\0\0")
                    for stream in range(1, 65, 2)
                )
                mute.sendall(NO_WINDOW + b"".join(calls))
            until(lambda: code(channel, check) == "RESOURCE_EXHAUSTED")
            assert code(channel, COUNTS) == "OK"
        until(lambda: code(channel, check) == "OK")
