"""Two real servers on one workspace, and the real nginx in front, set up by the file that is shipped."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from index.errors import ServiceError
from index.query import ClipQuery, VideoQuery
from index.workspace import Workspace
from semiome.app import app
from service.calling.connection import Connection
from service.calling.health import health_of
from service.client import Client
from service.server.credentials import make_access
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.gate.attackers import frame, headers
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.needs("nginx")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SHIPPED = Path(__file__).resolve().parents[3] / "deploy" / "nginx" / "semiome.conf"
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/semiome.conf;
}}
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(folder, replicas):
    """The shipped file with other ports and places, served by nginx; yields how to reach it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is missing: install Debian's nginx-light"
    port, shipped = free_port(), SHIPPED.read_text()
    for old, new in (
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("server 127.0.0.1:50051 ", f"server {replicas[0]['address']} "),
        ("server 127.0.0.1:50052 ", f"server {replicas[1]['address']} "),
        ("ssl_certificate /etc/semiome/access/", f"ssl_certificate {folder}/access/"),
        ("ssl_certificate_key /etc/semiome/access/", f"ssl_certificate_key {folder}/access/"),
        ("access_log /var/log/nginx/", f"access_log {folder}/"),
        ("error_log /var/log/nginx/", f"error_log {folder}/"),
    ):
        assert shipped.count(old) == 1, old
        shipped = shipped.replace(old, new)
    make_access(folder / "access", ["localhost", "127.0.0.1"])
    (folder / "semiome.conf").write_text(shipped)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield Connection(f"127.0.0.1:{port}", ca=folder / "access" / "ca.pem")
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The workspace, what its two replicas said, and how to reach the nginx before them."""
    folder = tmp_path_factory.mktemp("replicas")
    workspace = Workspace(folder / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    with ExitStack() as stack:
        replicas = [stack.enter_context(running(workspace)) for _ in range(2)]
        yield workspace, replicas, stack.enter_context(nginx(folder, replicas))


@pytest.fixture
def front(served):
    """How a new client reaches nginx, which has seen no answer yet."""
    return Connection(served[2].address, ca=served[2].ca)


def test_a_search_through_nginx_answers_what_a_direct_one_does(served, front):
    with Client(front) as through, Client(served[1][0]["address"]) as direct:
        assert through.search(VideoQuery("v1-1"), 20) == direct.search(VideoQuery("v1-1"), 20)


def test_the_audit_log_names_the_address_that_nginx_was_called_from(served, front):
    with Client(front) as client:
        client.search(VideoQuery("v1-1"))

    lines = (served[0].root / "audit" / "000001.jsonl").read_text().splitlines()
    assert json.loads([line for line in lines if "RetrievalService/Search" in line][-1])["behalf"] == "127.0.0.1"


def test_both_replicas_are_asked(served, front):
    pids = set()
    for _ in range(5):
        with Client(front) as client:
            pids |= {worker.pid for _ in range(4) for worker in client.status().workers}

    assert pids == {replica["pid"] for replica in served[1]}


def test_health_is_said_through_nginx(front):
    done = CliRunner().invoke(app, ["health", "--server", front.address, "--ca", str(front.ca)])

    assert (done.exit_code, done.stdout) == (0, "SERVING\n")
    assert health_of(front, "semiome.v1.RetrievalService") == "SERVING"


def test_a_stream_of_verdicts_passes_both_ways_as_it_goes(front):
    clips = [clip.clip.clip_id for _, embedded in make_cohort() for clip in embedded]
    answered = threading.Event()

    def items():
        yield from map(ClipQuery, [*clips] * 17)  # the first message goes when it is full
        assert answered.wait(PATIENCE_S), "nothing is answered before all is asked"
        yield ClipQuery("absent")

    with Client(front) as client:
        results = []
        for result in client.classify_stream(items()):
            answered.set()
            results.append(result.code)

    assert results == ["OK"] * 17 * len(clips) + ["NOT_FOUND"]


@pytest.mark.needs("torch")
def test_an_upload_of_megabytes_passes_nginx_and_is_answered_by_the_service(front, tmp_path):
    video = tmp_path / "seizure.mp4"
    video.write_bytes(os.urandom(5 * 2**20))

    with Client(front) as client, pytest.raises(ServiceError) as caught:
        client.search_by_video(video)

    # Received whole, and then: stored here are vectors without the encoder that made them.
    assert caught.value.code == "NOT_FOUND"
    assert "encoder" in str(caught.value)


def test_what_is_no_method_of_ours_does_not_reach_the_replicas(front):
    with grpc.secure_channel(front.address, front.credentials()) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/somebody.else.v1.Service/Method")(b"", timeout=PATIENCE_S)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_nothing_older_follows_while_generations_are_published(served, front):
    workspace, _, _ = served
    last = 0
    with Client(front) as one, Client(front) as other:  # of one connection's memory, over two channels
        seen = [one.search(VideoQuery("v0-0"), 1).provenance.generation]
        for _ in range(5):
            published = publish_all(workspace).generation

            def asked_of_both(published=published):
                for client in (one, other):
                    seen.append(client.search(VideoQuery("v0-0"), 1).provenance.generation)
                return seen[-10:] == [published] * 10

            until(asked_of_both)
    for generation in seen:
        number = int(generation.split("-")[0])
        assert number >= last
        last = number
    assert len(set(seen)) == 6


def test_the_end_of_a_replica_under_load_fails_no_call(served, tmp_path):
    workspace, (stays, _), _ = served
    failed, answered, enough = [], [0] * 8, threading.Event()
    with running(workspace) as ends, nginx(tmp_path, [stays, ends]) as front:

        def ask(number):
            with Client(Connection(front.address, ca=front.ca)) as client:
                while not enough.is_set():
                    try:
                        client.search(VideoQuery(f"v{number % 5}-0"), 5)
                        answered[number] += 1
                    except ServiceError as error:
                        failed.append(error)

        threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: all(answered))
        before = list(answered)
        os.kill(ends["pid"], signal.SIGTERM)
        until(lambda: not Path(f"/proc/{ends['pid']}").exists())
        until(lambda: all(then < now for then, now in zip(before, answered, strict=True)))
        enough.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        with Client(front) as client:
            left = {worker.pid for _ in range(4) for worker in client.status().workers}

    assert failed == []
    assert left == {stays["pid"]}


def spoken(front, *sent):
    """A connection by hand, TLS and the beginning of HTTP/2, and what is sent on it."""
    context = ssl.create_default_context(cafile=str(front.ca))
    context.set_alpn_protocols(["h2"])
    host, port = front.address.rsplit(":", 1)
    plain = socket.create_connection((host, int(port)), PATIENCE_S)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    connection.sendall(PREFACE + frame(4, 0, 0) + b"".join(sent))
    return connection


def ends(connection):
    """Whether nginx has closed it."""
    connection.settimeout(0.01)
    try:
        while connection.recv(65536):
            pass
    except (TimeoutError, ssl.SSLWantReadError):
        return False
    except OSError:
        pass
    return True


@pytest.mark.slow
def test_connections_that_say_nothing_make_room_where_they_run_short_and_end_after_seconds(front):
    with Client(front) as client, ExitStack() as held:
        for _ in range(2):  # all that one worker of nginx can have, and more
            silent = [held.enter_context(socket.create_connection(address_of(front), PATIENCE_S)) for _ in range(200)]
            idle = [held.enter_context(spoken(front)) for _ in range(200)]
        assert client.search(VideoQuery("v1-1"), 5).neighbours
        with Client(Connection(front.address, ca=front.ca)) as another:
            assert another.search(VideoQuery("v1-1"), 5).neighbours
        until(lambda: all(map(ends, silent)) and all(map(ends, idle)))


@pytest.mark.slow
def test_a_head_without_end_keeps_no_caller_of_nginx_waiting(front):
    """Header frames without an end, as fast as they go, which take a core of a service that has no proxy before it."""
    stop = threading.Event()

    def flood():
        with spoken(front, frame(1, 0, 1, b"\x82")) as connection:
            more = frame(9, 0, 1, b"\x40\x02ab\x7f\x81\x01" + b"x" * 256) * 50
            try:
                while not stop.is_set():
                    connection.sendall(more)
            except OSError:
                pass

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(20):
            with Client(Connection(front.address, ca=front.ca)) as client:
                assert client.search(VideoQuery("v1-1"), 5).neighbours
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_of_calls_at_once_beyond_an_addresss_share_nginx_says_that_they_are_too_many(served, front):
    head = headers("/semiome.v1.ClassificationService/ClassifyStream")
    calls = b"".join(frame(1, 4, 2 * number + 1, head) for number in range(100))
    log = served[0].root.parent / "semiome.log"
    with spoken(front, calls):
        until(lambda: '"http": 429' in log.read_text())
    with Client(front) as client:
        assert client.search(VideoQuery("v1-1"), 5).neighbours


def address_of(front):
    """Host and port of nginx."""
    host, port = front.address.rsplit(":", 1)
    return host, int(port)
