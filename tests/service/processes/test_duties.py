"""What a server does between calls: one duty that hangs or fails takes along neither the others nor an erasure."""

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import grpc
import pytest

from index.errors import DamagedData, ServiceError
from index.query import VideoQuery
from index.search.loader import SnapshotLoader
from index.tables.blocklist import ErasedList, block, lift
from index.tables.store import Store
from index.workspace import Workspace
from protos import review_pb2
from service.audit.trail import folder_of
from service.calling.connection import Connection
from service.calling.health import health_of
from service.client import Client
from service.processes.duties import Duties, Duty
from service.serving.watcher import StateWatcher
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.forge import Forged
from tests.service.gate.attackers import PREFACE, WATCH, code, connected, frame, headers
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until

LATE_S = 1.5
DUTIES = {
    "the list of the erased": True,
    "the index and the store": True,
    "the audit log on the disk": True,
    "usual distances": False,
    "refusals for the audit log": False,
    "the day's quotas": False,
    "the roster": False,
    "keys for tokens": False,
}
"""And whether answers rest on it."""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ages(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    return {name: float(age) for name, age in re.findall(r'^semiome_duty_age_seconds\{duty="(.*)"\} (.*)$', text, re.M)}


def found_patients(client):
    return {hit.clip.patient_id for hit in client.search(VideoQuery("v0-0"), 40).neighbours}


def blocked(workspace, patient):
    with Store(workspace).writing():
        block(workspace, patient)


def allowed(workspace, patient):
    with Store(workspace).writing():
        lift(workspace, patient)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hangs", "fails"])
@pytest.mark.parametrize("duty", DUTIES)
def test_one_duty_takes_no_other_along(secured, access, tmp_path, duty, fault):
    port, settings = free_port(), tmp_path / "serve.toml"
    settings.write_text(
        f"refresh_s = 0.1\nlate_s = {LATE_S}\n"
        + (access / "serve.toml")
        .read_text()
        .replace('certificate = "', f'certificate = "{access}/')
        .replace('key = "', f'key = "{access}/')
        .replace('jwks = "', f'jwks = "{access}/')
    )
    command = [duty, fault, "serve", "-w", secured.root, "--port", "0", "--json", "--config", settings]
    with Forged(
        *command, "--metrics-port", str(port), module="tests.service.calling.faulty_server", stdout=subprocess.PIPE
    ) as process:
        said = json.loads(process.stdout.readline())
        server = Connection(said["address"], ca=access / "ca.pem", token_file=access / "admin.token", tries=1)
        with Client(server) as client:
            until(lambda: ages(port)[duty] > LATE_S + 0.5)
            others = {name: age for name, age in ages(port).items() if name != duty}
            assert others.keys() == DUTIES.keys() - {duty}
            assert max(others.values()) < LATE_S + 0.5, others
            assert health_of(server) == ("NOT_SERVING" if DUTIES[duty] else "SERVING")
            assert {worker.provenance.generation for worker in client.status().workers} == {said["generation"]}
            assert "p3" in found_patients(client)
            blocked(secured, "p3")
            try:
                assert "p3" not in found_patients(client)  # and not: within a second
            finally:
                allowed(secured, "p3")
            assert "p3" in found_patients(client)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_duties_are_told_apart_by_when_they_came_through(caplog):
    hanging, times = threading.Event(), []

    def fail():
        raise OSError("of a path that must not be logged")

    duties = Duties(
        (Duty("hangs", hanging.wait, needed=True), Duty("fails", fail), Duty("works", lambda: times.append(1))),
        0.01,
        0.2,
    )
    duties.start()
    until(lambda: len(times) > 30)
    assert duties.late() == ["hangs"]
    ages = duties.ages()
    assert ages["works"] < 0.2 < min(ages["hangs"], ages["fails"])
    hanging.set()
    until(lambda: not duties.late())
    duties.stop()
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if text.startswith("fails: failed")] == [
        f"fails: failed with OSError at {__name__}:{fail.__code__.co_firstlineno + 1}"
    ]
    assert "hangs: has not succeeded for 0 s" in said
    assert "hangs: succeeds again" in said
    assert "path" not in caplog.text.replace("test_duties.py", "")


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    return workspace


def test_who_is_on_the_list_is_in_no_answer_though_their_rows_are_there_still(workspace):
    commit(workspace, make_cohort(patients=7)[15:])  # two more, since the index was built
    serving = SnapshotLoader(workspace)
    everybody = set(serving.snapshot.videos)
    for patient in ("p1", "p6"):
        blocked(workspace, patient)
    assert serving.erased_is_new()
    assert serving.withhold_erased()
    assert not serving.erased_is_new()
    snapshot = serving.snapshot
    gone = {name for name in everybody if name.startswith(("v1-", "v6-"))}
    assert len(gone) == 6
    assert set(snapshot.videos) == everybody - gone
    assert not any(map(snapshot.holds_video, gone))
    assert serving.refresh() is False
    allowed(workspace, "p1")
    assert serving.refresh()
    assert set(serving.snapshot.videos) == {*everybody} - {name for name in gone if name.startswith("v6-")}


@pytest.mark.parametrize("harm", [b"garbage", b"\xff\xfe", None], ids=["garbage", "bytes", "gone"])
def test_a_damaged_list_hides_whom_it_named_and_answers_nothing_new(workspace, harm):
    blocked(workspace, "p1")
    with (
        running(workspace, "--config", str(_settings(workspace))) as said,
        Client(Connection(said["address"], tries=1)) as client,
    ):
        assert "p1" not in found_patients(client)
        good = workspace.erased.read_bytes()
        if harm is None:
            workspace.erased.unlink()
        else:
            workspace.erased.write_bytes(harm)
        with pytest.raises(ServiceError, match="UNAVAILABLE: this server can't read the list of the erased"):
            client.counts()
        until(lambda: health_of(Connection(said["address"])) == "NOT_SERVING")
        workspace.erased.write_bytes(good)
        assert "p1" not in found_patients(client)
        until(lambda: health_of(Connection(said["address"])) == "SERVING")
    if harm is not None:
        workspace.erased.write_bytes(harm)
        with pytest.raises(DamagedData, match="bring the file `erased` back"):
            ErasedList(workspace)


@pytest.mark.parametrize("what", ["store", "store/videos.lance"])
def test_a_server_whose_store_is_gone_says_that_it_is_not_ready(workspace, what):
    with (
        running(workspace, "--config", str(_settings(workspace))) as said,
        Client(Connection(said["address"], tries=1)) as client,
    ):
        there, away = workspace.root / what, workspace.root / "away"
        there.rename(away)
        until(lambda: health_of(Connection(said["address"])) == "NOT_SERVING")
        assert client.search(VideoQuery("v0-0")).neighbours  # who asks all the same is answered from what was read
        away.rename(there)
        until(lambda: health_of(Connection(said["address"])) == "SERVING")


def _settings(workspace):
    path = workspace.root.parent / "serve.toml"
    path.write_text("refresh_s = 0.1\nlate_s = 1\n")
    return path


def test_a_log_that_another_process_holds_stops_no_health_and_no_signal(workspace):
    with running(workspace) as said, Client(Connection(said["address"], tries=1)) as client:
        client.counts()
        with (folder_of(workspace) / "000001.jsonl").open("rb+") as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # as a worker that was stopped within a write
            answered, asking = [], None
            asking = threading.Thread(target=lambda: answered.append(client.counts()))
            asking.start()
            time.sleep(0.5)
            began = time.monotonic()
            assert health_of(Connection(said["address"])) == "SERVING"
            assert time.monotonic() - began < 2
            assert not answered  # what can't be logged is not answered
        asking.join(PATIENCE_S)
        assert len(answered) == 1


@pytest.mark.slow
def test_a_log_that_is_held_for_ever_refuses_and_ends(workspace):
    with running(workspace) as said, (folder_of(workspace) / "000001.jsonl").open("rb+") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with Client(Connection(said["address"], tries=1)) as client, pytest.raises(ServiceError, match="UNAVAILABLE"):
            client.counts()


@pytest.mark.parametrize("name", ["generations/CURRENT", "models/heads/CURRENT"])
def test_a_pipe_in_place_of_a_file_hangs_nothing(workspace, name):
    with running(workspace, "--config", str(_settings(workspace))) as said, Client(said["address"]) as client:
        (workspace.root / name).unlink()
        os.mkfifo(workspace.root / name)
        time.sleep(1.0)
        blocked(workspace, "p3")
        assert "p3" not in found_patients(client)
        commit(workspace, make_cohort(patients=6)[15:])
        until(lambda: client.counts().total.patients == 5)


def test_no_answer_is_made_of_the_old_snapshot_once_somebody_is_on_the_list(workspace, monkeypatch):
    """However long the new one takes to be made: each call that begins meanwhile waits."""
    watcher = StateWatcher(workspace)
    make, making = SnapshotLoader._exchange, threading.Event()

    def slow(serving):
        making.set()
        time.sleep(0.5)
        make(serving)

    watcher.withhold_erased()
    monkeypatch.setattr(SnapshotLoader, "_exchange", slow)
    blocked(workspace, "p3")
    begun = watcher.erasures
    other = threading.Thread(target=watcher.withhold_erased)
    other.start()
    making.wait(PATIENCE_S)
    assert watcher.erased_is_new()  # so that a call comes here too
    assert watcher.erasures == begun
    watcher.withhold_erased()
    assert "p3" not in {video.patient_id for video in watcher.state.snapshot.videos.values()}
    assert watcher.erasures == begun + 1
    assert not watcher.erased_is_new()
    other.join()


def test_a_refresh_that_learns_of_an_erasure_first_hides_it_from_no_call(workspace):
    watcher = StateWatcher(workspace)
    watcher.withhold_erased()
    blocked(workspace, "p3")
    watcher._serving.refresh_rows()
    assert watcher.erased_is_new()
    watcher.withhold_erased()
    assert watcher.erasures == 1


def test_a_watcher_who_does_not_read_keeps_nothing_from_others_and_no_server_from_ending(workspace):
    with running(workspace, "--config", str(_settings(workspace))) as said, connected(said["address"]) as stuck:
        stuck.sendall(PREFACE + frame(4, 0, 0, struct.pack(">HI", 4, 0)) + frame(4, 1, 0))  # no window for answers
        stuck.sendall(frame(1, 4, 1, headers(WATCH)) + frame(0, 1, 1, b"\0\0\0\0\0"))
        time.sleep(0.5)
        workspace.erased.write_bytes(b"garbage")
        until(lambda: health_of(Connection(said["address"])) == "NOT_SERVING")


def test_a_server_whose_worker_hangs_as_it_starts_ends_when_it_is_asked(workspace):
    settings = workspace.root.parent / "serve.toml"
    settings.write_text("drain_s = 0\n")
    command = ["serve", "-w", workspace.root, "--port", "0", "--json", "--workers", "2", "--config", settings]
    with Forged(*command, stdout=subprocess.PIPE) as process:
        (first, *_) = until(lambda: workers(process.pid))
        os.kill(first, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def workers(pid):
    """Children that are workers by now: one that is stopped before it is one holds its parent within the kernel."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"supervisor" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize("name", ["preview.json", "film.mp4"])
def test_a_pipe_in_place_of_a_preview_hangs_nothing(workspace, name):
    folder = workspace.previews / "v0-0"
    folder.mkdir(parents=True)
    watcher = Store(workspace).videos()["v0-0"].source_sha256
    (folder / "preview.json").write_text(json.dumps({"fps": 25, "source_sha256": watcher}))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with running(workspace) as said, grpc.insecure_channel(said["address"]) as channel:
        request = review_pb2.GetPreviewRequest(video_id="v0-0").SerializeToString()
        assert code(channel, "/semiome.v1.ReviewService/GetPreview", [request]) == "NOT_FOUND"
        assert health_of(Connection(said["address"])) == "SERVING"
        with Client(said["address"]) as client:
            assert client.counts().total.clips == 60
