"""What one caller, stranger or slow neighbour may hold: places, connections, uploads, lines of the log."""

import asyncio
import json
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from index.errors import InvalidInput
from index.workspace import Workspace
from protos import common_pb2
from protos import retrieval_pb2 as retrieval
from service.audit.log import AuditLog
from service.audit.trail import Entry, folder_of, verify
from service.calling import requests as calls
from service.calling.connection import Connection
from service.calling.health import health_of
from service.client import Client
from service.config import ServerConfig
from service.errors import TooMuch
from service.gate.concurrency import CallSlots, Watching
from service.gate.fair_queue import FairQueue
from service.gate.peers import address_of, neighbourhood
from service.gate.refusals import Refusals
from service.messages.convert import filter_from_proto
from service.methods import uploads
from service.roles import Caller, Role, name_of
from tests.conftest import commit, install_head, install_signs, make_cohort, publish_all
from tests.service.gate.attackers import (
    METHODS,
    PREFACE,
    WATCH,
    answering,
    bearer,
    code,
    connected,
    frame,
    signed,
    start,
)
from tests.service.servers import running
from tests.waiting import PATIENCE_S, cpu_s, until

READER, OTHER = (Caller(name, frozenset({Role.READER}), "token") for name in ("reader", "other"))
ADMIN = Caller("admin", frozenset({Role.ADMIN}), "token")
STREAM = "/semiome.v1.RetrievalService/SearchStream"
COUNTS = "/semiome.v1.CatalogService/GetCounts"
CALLER = "/semiome.v1.ReviewService/GetCaller"


# Places


def taken(places, caller, times):
    """How many of so many tries find a place."""
    found = 0
    for _ in range(times):
        try:
            places.take(caller)
        except TooMuch:
            continue
        found += 1
    return found


def test_a_caller_has_an_eighth_and_administrators_a_reserve():
    places = CallSlots(128)
    assert taken(places, READER, 140) == 16
    assert sum(taken(places, Caller(str(n), frozenset({Role.READER}), "token"), 140) for n in range(50)) == 96
    assert taken(places, ADMIN, 140) == 16
    assert places.taken == 128
    places.give_back(READER)
    assert taken(places, OTHER, 1) == 0  # of the reserve
    assert taken(places, ADMIN, 2) == 1


@pytest.mark.parametrize("most", [1, 2, 7, 8])
def test_few_places_are_places_for_all(most):
    places = CallSlots(most)
    assert taken(places, READER, 3) >= 1
    assert CallSlots(most).taken == 0
    places.give_back(READER)
    assert taken(CallSlots(most), ADMIN, 2 * most) == most


def test_who_watches_health_is_counted_by_address():
    watching = Watching()

    def watchers(address, times):
        found = 0
        for _ in range(times):
            try:
                watching.take(address)
            except TooMuch:
                continue
            found += 1
        return found

    assert watchers("10.0.0.1", 40) == 16
    assert watchers("10.0.0.2", 40) == 16
    assert sum(watchers(f"10.0.1.{n}", 40) for n in range(9)) == 32
    watching.give_back("10.0.0.1")
    assert watchers("10.0.0.1", 2) == 1


def test_streams_of_one_reader_leave_places_and_stand_in_the_log(secured, access):
    with running(secured, "--config", str(access / "serve.toml")) as said, ExitStack() as held:
        token = (access / "reader.token").read_text().strip()
        calls = []
        for _ in range(5):
            channel = held.enter_context(secure(said, access, own=True))
            for _ in range(28):
                calls.append(start(channel, STREAM, iter(Silent()), timeout=None, metadata=bearer(token)))
        until(lambda: sum(call.done() for call in calls) >= 140 - 16)
        time.sleep(0.5)
        assert sum(not call.done() for call in calls) == 16
        for role in ("clinician", "classifier", "admin"):
            with Client(
                Connection(said["address"], ca=access / "ca.pem", token_file=access / f"{role}.token")
            ) as client:
                assert client.counts().total.clips == 60
        for call in calls:
            call.cancel()
    begun = [line for line in lines_of(secured) if line["code"] == "BEGUN" and line["method"] == STREAM]
    assert len(begun) == 16
    assert {(line["caller"], line["peer"], line["peer_type"]) for line in begun} == {
        ("token:some reader", "127.0.0.1", 2)
    }
    assert verify(secured).lines


def connection(said, access, role):
    return Connection(said["address"], ca=access / "ca.pem", token_file=access / f"{role}.token")


class Silent:
    """Requests that never come."""

    def __iter__(self):
        time.sleep(PATIENCE_S)
        yield from ()


def secure(said, access, *, own=False):
    trust = grpc.ssl_channel_credentials((access / "ca.pem").read_bytes())
    return grpc.secure_channel(said["address"], trust, [("grpc.use_local_subchannel_pool", int(own))])


def lines_of(workspace):
    paths = sorted(folder_of(workspace).glob("0*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


# Connections


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    install_signs(workspace, ("Semiology-tonic",))
    return workspace


def settings(workspace, text):
    path = workspace.root.parent / "serve.toml"
    path.write_text(text)
    return "--config", str(path)


SETTINGS = PREFACE + frame(4, 0, 0) + frame(4, 1, 0)


@pytest.mark.parametrize("first", [b"", PREFACE, SETTINGS], ids=["silent", "preface", "settings"])
def test_connections_are_no_more_than_may_be_and_the_rest_goes_on(workspace, first):
    with running(workspace, *settings(workspace, "max_connections = 40\n")) as said, ExitStack() as held:
        client = held.enter_context(Client(said["address"]))
        assert client.counts().total.clips == 60
        for _ in range(300):
            connection = held.enter_context(connected(said["address"]))
            connection.sendall(first)
        time.sleep(0.5)
        open_files = len(list(Path(f"/proc/{said['pid']}/fd").iterdir()))
        assert open_files < 40 + 80
        assert client.counts().total.clips == 60


def test_a_server_takes_all_the_files_that_the_system_gives_it(workspace):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        with running(workspace) as said:
            assert resource.prlimit(said["pid"], resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The log


def test_a_thousand_refusals_of_a_stranger_are_few_lines_with_a_count(secured, access):
    before = len(lines_of(secured))
    with running(secured, "--config", str(access / "serve.toml")) as said, secure(said, access) as channel:
        codes = {code(channel, name) for _ in range(10) for name in METHODS if "semiome" in name}
        assert codes == {"UNAUTHENTICATED"}
        asked = 10 * sum("semiome" in name for name in METHODS)
    found = [line for line in lines_of(secured)[before:] if line["code"] == "UNAUTHENTICATED"]
    assert sum(line.get("count", 1) for line in found) == asked
    assert len(found) < 12
    assert {line["peer"] for line in found} == {"127.0.0.1"}
    assert verify(secured).lines


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def stranger(peer, method="/a.B/C"):
    return Entry("nothing:unknown", method, "UNAUTHENTICATED", "1", peer=peer)


def test_whatever_strangers_do_for_a_day_the_log_grows_by_little(workspace):
    clock = Clock()
    log = AuditLog(workspace)
    refusals = Refusals(log, clock)
    asked = written = 0
    for second in range(600):
        for number in range(200):  # from ever new addresses, and one that stays
            asked += 2
            for peer in (f"10.{second % 250}.{number}.7", "10.9.9.9"):
                entry = stranger(peer)
                if refusals.is_news(entry):
                    written += 1
                    log.append([entry])
        clock.now += 1
        refusals.write()
    refusals.write(everything=True)
    log.close()
    lines = lines_of(workspace)
    assert sum(line.get("count", 1) for line in lines) == asked
    size = sum(path.stat().st_size for path in folder_of(workspace).glob("*.jsonl"))
    assert size / 600 * 86_400 < 600e6  # bytes a day
    assert any(line["peer"] == "others" for line in lines)


def test_refusals_of_known_callers_have_a_line_each_but_where_they_ask_too_much(workspace):
    log = AuditLog(workspace)
    refusals = Refusals(log, Clock())
    entries = [
        Entry(f"token:{who}", method, code, "1")
        for who in "ab"
        for method in "xy"
        for code in ("NOT_FOUND", "RESOURCE_EXHAUSTED")
    ]
    assert [refusals.is_news(entry) for entry in entries] == [True] * 8
    assert [refusals.is_news(entry) for entry in entries] == [True, False] * 4
    log.close()


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from index.errors import CannotWrite
from index.workspace import Workspace
from service.audit.log import AuditLog
from service.audit.trail import Entry, folder_of, verify

def append(code, most):
    written = 0
    try:
        while written < most:
            log.append([Entry("token:a", "/a.B/C", code, "1")])
            written += 1
    except CannotWrite:
        pass
    return written

disk = Path(sys.argv[1])
log = AuditLog(Workspace(disk / "workspace"))
assert append("OK", 1) == 1
log.sync()
try:
    with (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"0" * 4096)
except OSError:
    pass
def can_answer():
    try:
        log.sync()
        log.sync()
    except CannotWrite:
        return False
    return True

refused, before = append("UNAVAILABLE", 100), can_answer()
answered, after = append("OK", 100_000), can_answer()
(disk / "filler").unlink()
log.sync()
ballast = (folder_of(Workspace(disk / "workspace")) / ".ballast").stat().st_size
log.close()
print(refused, answered, int(before), int(after), ballast, verify(Workspace(disk / "workspace")).lines)
"""


@pytest.mark.needs("namespaces")
def test_on_a_full_disk_answers_are_logged_a_while_and_refusals_are_not(tmp_path):
    mount = f"mount -t tmpfs -o size=8m tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    ran = subprocess.run(
        ["unshare", "-rm", "bash", "-c", mount], input=ON_A_SMALL_DISK, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    refused, answered, before, after, ballast, lines = map(int, ran.stdout.split())
    assert refused < 20
    assert (before, after) == (1, 0)  # by this the server says that it is not ready
    assert 1000 < answered < 10_000
    assert ballast == 2**20
    assert lines == 1 + refused + answered


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:50334", "192.0.2.7"),
        ("ipv6:%5B2001:db8::7%5D:50334", "2001:db8::7"),
        ("ipv6:[::1]:1", "::1"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:5", "192.0.2.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5", "fe80::1"),
        ("unix:", "local"),
        ("unix:/run/x", "local"),
        ("", ""),
        ("ipv4:Erika Mustermann:5", ""),
    ],
)
def test_a_peer_is_named_by_its_address_alone(peer, address):
    assert address_of(peer) == address


def test_neighbours_of_ipv6_are_one_stranger():
    assert neighbourhood("192.0.2.7") == "192.0.2.7"
    assert neighbourhood("2001:db8::7") == neighbourhood("2001:db8::ffff:7") != neighbourhood("2001:db8:0:1::7")


# Names


@pytest.mark.parametrize("name", ["x" * 129, "\ud800", "a\nb", "", "sha256:ab", "\u202eevil", "x\0"])
def test_a_name_that_is_no_name_is_hashed_and_stays_apart(name):
    assert name_of(name).startswith("sha256:")
    assert len(name_of(name)) == 71
    assert name_of(name) != name_of(name + "x")
    assert name_of(name) != name_of(name_of(name))


@pytest.mark.parametrize("name", ["anna", "Jürgen Müller", "service-account@hospital.example", "李", "x" * 128])
def test_a_name_that_is_one_stays(name):
    assert name_of(name) == name


def test_two_long_names_are_two_people_and_a_broken_one_stops_nothing(secured, access, tmp_path):
    key = load_pem_private_key((access / "authority" / "signing.key").read_bytes(), None)
    kid = json.loads((access / "jwks.json").read_text())["keys"][0]["kid"]
    with running(secured, "--config", str(access / "serve.toml"), "--workers", "2") as said:
        long = ["x" * 128 + end for end in "ab"]
        identities = []
        for name in [*long, "\ud800", "a\0b", "\ufffe"]:
            token = signed(key, kid, sub=name, roles=["clinician"])
            with Client(Connection(said["address"], ca=access / "ca.pem", token=token)) as client:
                assert client.counts().total.clips == 60
                identities.append(client.ask(calls.caller()).identity)
        assert len(set(identities)) == 5
        time.sleep(1.2)  # quotas are exchanged
        admin = connection(said, access, "admin")
        with Client(admin) as client:
            assert len(client.status().workers) == 2
        assert health_of(admin) == "SERVING"


# Uploads


async def test_turns_are_fair_and_few_wait():
    turns, order = FairQueue(2), []

    async def upload(caller, gate):
        async with turns.turn(caller):
            order.append(caller)
            await gate.wait()

    gate = asyncio.Event()
    tasks = [asyncio.create_task(upload(name, gate)) for name in "aaabac"]
    await asyncio.sleep(0.01)
    assert order == ["a", "b"]  # one each, and c behind them
    with pytest.raises(TooMuch):
        await asyncio.wait_for(asyncio.gather(*(upload("a", gate) for _ in range(3))), 0.05)
    gate.set()
    await asyncio.gather(*tasks)
    assert order[:3] == ["a", "b", "c"]
    assert sorted(order[3:]) == ["a"] * len(order[3:])
    tasks = [asyncio.create_task(upload(name, asyncio.Event())) for name in "xyz"]
    await asyncio.sleep(0.01)
    tasks[2].cancel()
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1), turns.turn("w"):
        order.append("w")
    for task in tasks:
        task.cancel()


def test_an_upload_that_drips_gives_its_place_to_others(workspace, monkeypatch):
    monkeypatch.setattr(uploads, "_STARTS_S", 1.0)
    with answering(workspace, ServerConfig(port=0)) as address, grpc.insecure_channel(address) as channel:

        def dripping():
            yield retrieval.SearchByVideoRequest(header={"size_bytes": 1000}).SerializeToString()
            while True:
                yield retrieval.SearchByVideoRequest(chunk=b"x").SerializeToString()
                time.sleep(0.3)

        began = time.monotonic()
        call = start(channel, "/semiome.v1.RetrievalService/SearchByVideo", dripping())
        assert call.exception().code().name == "DEADLINE_EXCEEDED"
        assert "too slowly" in call.details()
        assert time.monotonic() - began < 20


# What a caller claims to have seen


def test_claims_to_have_seen_something_newer_cost_one_look_in_a_while(workspace):
    with running(workspace) as said, grpc.insecure_channel(said["address"]) as channel:
        assert code(channel, COUNTS, metadata=(("semiome-seen", f"{said['generation']}/1"),) * 2) == "INVALID_ARGUMENT"
        before, began = cpu_s(said["pid"]), time.monotonic()
        while time.monotonic() - began < 2:
            assert code(channel, COUNTS, metadata=(("semiome-seen", f"{said['generation']}/999999999"),)) == "OK"
        assert cpu_s(said["pid"]) - before < 1.5


def test_questions_of_a_stream_are_calls_a_second_like_any_other(workspace):
    config = ServerConfig(port=0, limits={"admin": {"calls_per_s": 20}})
    only = config.model_copy(update={"limits": dict.fromkeys(Role, config.limits["admin"])})
    with answering(workspace, only) as address, grpc.insecure_channel(address) as channel:
        began = time.monotonic()
        answers = list(start(channel, STREAM, [b""] * 100))
        assert len(answers) == 100
        assert time.monotonic() - began > 2  # forty at once, the others as they may


def test_strangers_who_watch_health_and_go_leave_no_lines(workspace):
    with running(workspace) as said, grpc.insecure_channel(said["address"]) as channel:
        for _ in range(50):
            call = start(channel, WATCH, [b""])
            next(call)
            call.cancel()
        assert code(channel, COUNTS) == "OK"
    assert [line["code"] for line in lines_of(workspace)] == ["OK"]


def test_a_filter_of_more_values_than_anybody_means_is_refused_before_it_is_read():
    message = common_pb2.Filter(metadata=[common_pb2.Metadata()] * 20_001)
    with pytest.raises(InvalidInput, match="at most 20000 values"):
        filter_from_proto(message)
    parts = [common_pb2.Filter(video_ids=["v"] * 5_000) for _ in range(5)]
    with pytest.raises(InvalidInput, match="at most 20000 values"):
        filter_from_proto(common_pb2.Filter(none_of=parts))
    assert filter_from_proto(common_pb2.Filter(video_ids=[f"v{n}" for n in range(20_000)]))
