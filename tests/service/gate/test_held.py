"""Whatever the least privileged hold, the administrator gets in, is answered, and can erase a patient.

`pytest -s` prints how long each took: the table in docs/service.md.
"""

import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from index.errors import ServiceError
from index.query import VideoQuery
from protos import retrieval_pb2 as retrieval
from service.calling.connection import Connection
from service.calling.health import health_of
from service.client import Client
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.gate.attackers import PREFACE, WATCH, bearer, code, connected, frame, start
from tests.service.gate.test_bounds import COUNTS, STREAM, Silent, secure
from tests.service.servers import running
from tests.waiting import until

pytestmark = pytest.mark.slow

UPLOAD = "/semiome.v1.RetrievalService/SearchByVideo"
BATCH = "/semiome.v1.RetrievalService/SearchBatch"
OFTEN_S = 10.0
"""No answer may take longer; on a machine of two busy cores, on which the attack goes on too."""


@pytest.fixture
def workspace(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    return workspace


class Attack:
    """What a stranger and callers of few rights can do to a server."""

    def __init__(self, said, access, stack):
        self.said, self.access, self.stack = said, access, stack

    def token(self, role):
        return bearer((self.access / f"{role}.token").read_text().strip())

    def channel(self):
        return self.stack.enter_context(secure(self.said, self.access, own=True))

    def silent_connections(self):
        for _ in range(1500):
            self.stack.enter_context(connected(self.said["address"]))

    def plaintext_connections(self):
        for _ in range(500):
            self.stack.enter_context(connected(self.said["address"])).sendall(PREFACE + frame(4, 0, 0))

    def silent_streams(self):
        for _ in range(5):
            channel = self.channel()
            for _ in range(28):
                self.hold(start(channel, STREAM, iter(Silent()), timeout=None, metadata=self.token("reader")))

    def watchers(self):
        channel = self.channel()
        for _ in range(100):
            self.hold(start(channel, WATCH, [b""], timeout=None))

    def dripping_uploads(self):
        def dripping():
            yield retrieval.SearchByVideoRequest(header={"size_bytes": 10**9}).SerializeToString()
            while not self.over.wait(1):
                yield retrieval.SearchByVideoRequest(chunk=b"x").SerializeToString()

        channel = self.channel()
        for _ in range(20):
            self.hold(start(channel, UPLOAD, dripping(), timeout=None, metadata=self.token("clinician")))

    def refusals(self):
        channel = self.channel()
        self.again(lambda: code(channel, COUNTS), 4)

    def dear_batches(self):
        queries = [retrieval.Query(video_id=f"v{n % 5}-{n % 3}") for n in range(1000)]
        data = retrieval.SearchBatchRequest(queries=queries, options={"k": 10}).SerializeToString()
        channel = self.channel()
        self.again(lambda: code(channel, BATCH, [data], metadata=self.token("reader")), 4)

    def cancelled_calls(self):
        channel = self.channel()
        self.again(lambda: start(channel, COUNTS, [b""], metadata=self.token("reader")).cancel(), 2)

    def again(self, act, threads):
        def repeat():
            while not self.over.is_set():
                act()

        for _ in range(threads):
            thread = threading.Thread(target=repeat)
            thread.start()
            self.stack.callback(thread.join)

    def hold(self, call):
        self.stack.callback(call.cancel)

    @contextmanager
    def going_on(self, name):
        self.over = threading.Event()
        with self.stack:
            getattr(self, name)()
            self.stack.callback(self.over.set)  # entered last: before threads are waited for
            time.sleep(0.5)
            yield


@pytest.mark.parametrize(
    "held",
    [
        *("silent_connections", "plaintext_connections", "silent_streams", "watchers"),
        *("dripping_uploads", "refusals", "dear_batches", "cancelled_calls"),
    ],
)
def test_an_administrator_is_answered_and_can_erase(workspace, access, held):
    with running(workspace, "--config", str(access / "serve.toml")) as said:
        own = Connection(said["address"], ca=access / "ca.pem", token_file=access / "admin.token")
        attack = Attack(said, access, ExitStack())
        took = {}

        @contextmanager
        def timed(what):
            began = time.monotonic()
            yield
            took[what] = time.monotonic() - began

        with attack.going_on(held):
            with timed("health"):
                assert health_of(own) == "SERVING"
            with Client(own) as client:
                with timed("status"):
                    assert client.status().workers
                with timed("search"):
                    assert client.search(VideoQuery("v0-0")).neighbours
                with timed("erasure"):
                    assert client.wait(client.erase_patient("p4")).state == "done"
                    until(lambda: client.counts().total.patients == 4)
        print(f"\n| {held.replace('_', ' ')} | " + " | ".join(f"{1000 * s:.0f} ms" for s in took.values()) + " |")  # noqa: T201
        assert max(took[what] for what in ("health", "status", "search")) < OFTEN_S
        with pytest.raises(ServiceError, match="not stored"), Client(own) as client:
            client.search(VideoQuery("v4-0"))
