"""Object storage that pauses, refuses, or answers with errors, as it does for a minute now and then."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from index.custody import erasure
from index.custody.doctor import examine
from index.custody.erasure import erase_patient
from index.custody.erasure_note import Note, unfinished
from index.errors import Locked, StateError, Unreachable
from index.files import bucket as objects
from index.files.bucket import Bucket, bucket
from index.search.loader import SnapshotLoader
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors import publication as sharing
from index.workspace import Workspace, current
from tests.conftest import make_cohort
from tests.index.files.test_objects import SERVERS, build, commit, left_in, s3, theirs_among, use

pytestmark = pytest.mark.needs("torch")


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """(workspace, pid of its storage)."""
    with s3() as address:
        use(monkeypatch, address)
        monkeypatch.setattr(objects, "LEASE_S", 2.0)
        yield Workspace(tmp_path / "host", "s3://clips/faults"), SERVERS[address]
    bucket.cache_clear()


def pause(pid, seconds):
    """The storage answers nothing for so long, as when its network is away."""
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(seconds, os.kill, (pid, signal.SIGCONT))
    timer.daemon = True
    timer.start()


@pytest.mark.slow
def test_a_pause_within_an_encode_loses_nothing(shared, hospital, tiny_encoder):
    workspace, pid = shared
    manifest = read_manifest(hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2")))
    paused = []

    def progress(done, total, now):
        if done >= 1 and not paused:
            paused.append(time.monotonic())
            pause(pid, 60)

    report = encode(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions(), progress)
    assert time.monotonic() - paused[0] > 50
    assert (report.videos_written, report.refused) == (2, [])
    assert sorted(Store(workspace).videos()) == ["v1", "v2"]
    assert len(Store(workspace).clips(tiny_encoder.encoder_id).clips) == 4


def pausing_once(monkeypatch, pid, where, what, seconds=60):
    """Let the storage pause at the first call of `where.what`; returns when that was, in a list."""
    at, real = [], getattr(where, what)

    def call(*given, **named):
        if not at:
            at.append(time.monotonic())
            pause(pid, seconds)
        return real(*given, **named)

    monkeypatch.setattr(where, what, call)
    return at


@pytest.mark.slow
@pytest.mark.parametrize(("where", "what"), [(Store, "clips"), (sharing, "_whole"), (Bucket, "write")])
def test_a_pause_within_a_build_loses_nothing(shared, monkeypatch, where, what):
    workspace, pid = shared
    commit(workspace, make_cohort())
    at = pausing_once(monkeypatch, pid, where, what)

    name = build(workspace)

    assert time.monotonic() - at[0] > 50
    assert len(SnapshotLoader(workspace).snapshot) == 60
    assert current(workspace.generations) == name
    assert {finding.state for finding in examine(workspace)} == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "what"),
    [
        (erasure, "withhold"),
        (erasure, "remove_patient"),
        (erasure, "compact"),
        (erasure, "rebuild_without"),
        (erasure, "scan"),
        (Note, "remove"),
    ],
)
def test_a_pause_within_an_erasure_leaves_nothing_of_the_patient(shared, monkeypatch, where, what):
    workspace, pid = shared
    cohort, clips = theirs_among(make_cohort(patients=3))
    commit(workspace, cohort)
    build(workspace)
    at = pausing_once(monkeypatch, pid, where, what)

    receipt = erase_patient(workspace, "patient-of-mine")

    assert time.monotonic() - at[0] > 50
    assert (receipt["complete"], receipt["scan"]["files_with_finds"]) == (True, ())
    assert left_in(bucket(workspace.bucket), clips) == []
    assert unfinished(workspace) == []
    assert len(SnapshotLoader(workspace).snapshot) == 36


def test_a_holder_that_nobody_has_overtaken_is_one_still(shared):
    workspace, pid = shared
    commit(workspace, make_cohort(patients=1))
    with committing(Store(workspace), "enc1", 8) as committer:
        pause(pid, 5.0)
        time.sleep(4.5)  # more than twice the lease
        committer.commit(make_cohort(patients=2))
    assert len(Store(workspace).videos()) == 6


def test_a_sign_of_life_whose_answer_was_lost_is_the_holders_own(shared):
    workspace, _ = shared
    commit(workspace, make_cohort(patients=1))
    with Store(workspace).writing() as still_mine:
        held = still_mine.__closure__[0].cell_contents
        data, e_tag = bucket(workspace.bucket)._read("commit.lock")
        assert bucket(workspace.bucket)._put("commit.lock", data + b"1", {"e_tag": e_tag})
        time.sleep(1.5)
        still_mine()
        assert held._shown > 0
    assert bucket(workspace.bucket)._read("commit.lock")[0] is None


def test_one_that_was_overtaken_meanwhile_writes_no_more(shared):
    workspace, _ = shared
    with Store(workspace).writing() as still_mine:
        assert bucket(workspace.bucket)._put("commit.lock", b"another 0")
        time.sleep(1.5)  # its next sign of life is refused
        with pytest.raises(Locked, match="lost to another process"):
            still_mine()


@pytest.fixture
def refusing(monkeypatch, tmp_path):
    """`refusing(status, code)`: a workspace whose storage answers so."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = f"<Error><Code>{self.server.said[1]}</Code><Message>secret-place</Message></Error>".encode()
            self.send_response(self.server.said[0])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def start(status, code):
        server.said = status, code
        use(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        return Workspace(tmp_path / "host", "s3://clips/refusing")

    yield start
    server.shutdown()
    server.server_close()
    bucket.cache_clear()


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "InvalidAccessKeyId", "HTTP 403, InvalidAccessKeyId): AWS_ACCESS_KEY_ID is not known"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY is not the one"),
        (400, "ExpiredToken", "HTTP 400, ExpiredToken): the credentials have expired"),
        (403, "AccessDenied", "may not do this in this bucket"),
        (403, "Whatever", "HTTP 403, Whatever): check the bucket"),
    ],
)
@pytest.mark.parametrize("asked", ["objects", "tables"])
def test_what_the_storage_says_is_said(refusing, status, code, says, asked):
    workspace = refusing(status, code)
    ask = (lambda: bucket(workspace.bucket).write("key", b"x")) if asked == "objects" else Store(workspace).table_names
    with pytest.raises(StateError) as caught:
        ask()
    assert not isinstance(caught.value, Unreachable)
    assert says in str(caught.value)
    assert "secret-place" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.fixture
def short_lived(monkeypatch, tmp_path):
    """Keys that end after 2 s, from where containers get theirs, and a storage that notes who asks: their names."""
    given, noted = [], []

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self):
            given.append(f"key{len(given)}")
            end = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
            keys = {"AccessKeyId": given[-1], "SecretAccessKey": "s", "Token": "t", "Expiration": end}
            self.answer(200, json.dumps(keys).encode())

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Storage(Provider):
        def do_GET(self):
            noted.append(re.search(r"Credential=(\w+)", self.headers["Authorization"])[1])
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        do_HEAD = do_GET

    with ExitStack() as held:
        ports = []
        for handler in (Provider, Storage):
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            held.callback(server.server_close)
            held.callback(server.shutdown)
            ports.append(server.server_port)
        (tmp_path / "token").write_text("token")
        use(monkeypatch, f"http://127.0.0.1:{ports[1]}")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{ports[0]}/keys")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        yield noted
    bucket.cache_clear()


@pytest.mark.parametrize("asked", ["objects", "tables"])
def test_keys_that_end_are_fetched_again_where_somebody_gives_them(short_lived, tmp_path, asked):
    workspace = Workspace(tmp_path / "host", "s3://clips/keys")
    for _ in range(3):
        if asked == "objects":
            bucket(workspace.bucket).read("key")
        else:
            with suppress(StateError):
                Store(workspace).table_names()
        time.sleep(2.5)
    assert len(set(short_lived)) >= 3


def test_of_two_who_make_the_tables_in_the_same_moment_one_goes_on(shared, monkeypatch):
    """As where the first one was taken for dead between its last sign of life and its first table."""
    workspace, _ = shared
    other, real, met = Store(workspace), Store.database, []

    def database(store):
        if store is not other and not met:
            met.append(store)
            bucket(workspace.bucket).remove(["commit.lock"])
            with committing(other, "enc1", 8) as committer:
                committer.commit(make_cohort(patients=1))
        return real(store)

    monkeypatch.setattr(Store, "database", database)
    with pytest.raises(Locked, match="lost to another process"):
        commit_slowly(workspace)
    assert len(Store(workspace).videos()) == 3
    commit(workspace, make_cohort(patients=1))
    assert len(Store(workspace).videos()) == 3


def commit_slowly(workspace):
    with committing(Store(workspace), "enc1", 8) as committer:
        time.sleep(1.5)  # its next sign of life is refused
        committer.commit(make_cohort(patients=2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_waits_for_the_storage_can_be_ended(shared, number):
    """By Ctrl-C too, which the library would hear once it has given up."""
    workspace, pid = shared
    commit(workspace, make_cohort(patients=1))
    environment = {**os.environ, "SEMIOME_LOCAL": str(workspace.root.parent / "local")}
    os.kill(pid, signal.SIGSTOP)
    try:
        heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored in the background
        script = f"{heard}; from semiome.__main__ import main; main()"
        command = [sys.executable, "-c", script, "index", "list", "-w", workspace.bucket]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(4)
            assert process.poll() is None
            process.send_signal(number)
            said = process.communicate(timeout=20)[1]
        assert process.returncode in {128 + number, -number}, said
        assert "Traceback" not in said
    finally:
        os.kill(pid, signal.SIGCONT)
