"""The audit log holds a line for each read and refusal, and shows what was done to it afterwards."""

import fcntl
import json
import os
import resource
import shutil
import subprocess

import grpc
import pytest

from index.errors import DamagedData, ServiceError, StateError
from index.workspace import Workspace
from protos import classification_pb2, retrieval_pb2
from service.audit import log as audit
from service.audit.log import AuditLog
from service.audit.trail import Entry, folder_of, of_patient, verify
from service.config import read_config
from service.server.credentials import make_access, make_token
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.forge import Forged
from tests.service.gate.attackers import METHODS, answering, bearer, claims, code, serving
from tests.waiting import PATIENCE_S

FIRST = "000001.jsonl"


def entry(number, patients=("p1",)):
    return Entry("token:eve", "/semiome.v1.RetrievalService/Search", "OK", f"{number:016x}", patients, "enc1/", "g1")


def write(workspace, count, start=0):
    """Lines of one each; returns the hash of the last one."""
    log = AuditLog(workspace)
    for number in range(start, start + count):
        log.append([entry(number)])
    log.close()
    return verify(workspace).last


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A log of three lines."""
    workspace = Workspace(tmp_path_factory.mktemp("written") / "workspace")
    write(workspace, 3)
    return workspace


@pytest.fixture
def copied(written, tmp_path):
    """A copy of it that may be spoiled: (workspace, file, hash of the last line)."""
    shutil.copytree(written.root, tmp_path / "copy")
    workspace = Workspace(tmp_path / "copy")
    return workspace, folder_of(workspace) / FIRST, verify(workspace).last


@pytest.fixture
def small_segments(monkeypatch):
    """Segments of some five lines."""
    monkeypatch.setattr(audit, "_SEGMENT_BYTES", 1500)


def is_refused(workspace, noted=""):
    try:
        verify(workspace, noted)
    except DamagedData:
        return True
    return False


def test_a_log_as_it_was_written_is_accepted(written):
    assert verify(written).lines == 3


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_change_of_any_byte_is_seen(copied, flip):
    workspace, file, noted = copied
    good = file.read_bytes()
    unseen = []
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :])
        if not is_refused(workspace, noted):
            unseen.append(place)

    assert unseen == []


def test_a_change_of_any_byte_but_the_very_last_is_seen_without_a_note(copied):
    workspace, file, _ = copied
    good = file.read_bytes()
    unseen = []
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x02]) + good[place + 1 :])
        if not is_refused(workspace):
            unseen.append(place)

    assert unseen == [len(good) - 1]  # then it looks like a line that a kill has cut


SPOILED = {
    "first dropped": lambda a, b, c: b + c,
    "one dropped": lambda a, b, c: a + c,
    "swapped": lambda a, b, c: a + c + b,
    "one twice": lambda a, b, c: a + a + b + c,
    "the last twice": lambda a, b, c: a + b + c + c,
    "one put in": lambda a, b, c: a + a.replace(b"eve", b"bob") + b + c,
    "an empty line put in": lambda a, b, c: a + b"\n" + b + c,
    "two made one": lambda a, b, c: a + b.replace(b"\n", b"") + c,
    "one cut": lambda a, b, c: a + b[:50] + b"\n" + c,
}


@pytest.mark.parametrize("how", SPOILED)
def test_lines_that_are_dropped_moved_or_put_in_are_seen(copied, how):
    workspace, file, _ = copied
    file.write_bytes(SPOILED[how](*file.read_bytes().splitlines(keepends=True)))

    with pytest.raises(DamagedData, match=r"line [1-4] of 000001\.jsonl is not what was written"):
        verify(workspace)


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_lines_cut_off_the_end_are_seen_by_the_hash_that_was_noted(copied, lines):
    workspace, file, noted = copied
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:lines]))

    assert verify(workspace).lines == lines
    with pytest.raises(DamagedData, match="lines were cut off its end"):
        verify(workspace, noted)


def test_a_log_written_anew_with_another_key_is_seen(copied):
    workspace, _, noted = copied
    workspace.key.write_text("0" * 64)

    assert is_refused(workspace)
    shutil.rmtree(folder_of(workspace))
    write(workspace, 3)
    assert is_refused(workspace, noted)


def test_without_a_log_there_is_nothing_to_check(workspace):
    with pytest.raises(StateError, match="no audit log"):
        verify(workspace)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_segment_that_is_missing_is_seen(workspace, small_segments, number):
    noted = write(workspace, 17)
    assert sorted(path.name for path in folder_of(workspace).glob("*.jsonl"))[2:] == ["000003.jsonl", "000004.jsonl"]
    (folder_of(workspace) / f"{number:06d}.jsonl").unlink()

    assert is_refused(workspace, noted)
    assert is_refused(workspace)


def test_the_last_segment_that_is_missing_is_seen_by_the_hash_that_was_noted(workspace, small_segments):
    noted = write(workspace, 17)
    sorted(folder_of(workspace).glob("*.jsonl"))[-1].unlink()

    assert is_refused(workspace, noted)


def test_segments_that_change_places_are_seen(workspace, small_segments):
    write(workspace, 17)
    second, third = (folder_of(workspace) / f"00000{n}.jsonl" for n in (2, 3))
    one, other = second.read_bytes(), third.read_bytes()
    second.write_bytes(other)
    third.write_bytes(one)

    assert is_refused(workspace)


def worker(workspace, segment_bytes, name, count):
    arguments = (workspace.root, segment_bytes, name, count)
    return Forged(*arguments, module="tests.service.audit.audit_worker", stdout=subprocess.PIPE)


def test_processes_that_write_at_once_make_one_chain(workspace):
    write(workspace, 1)
    workers = [worker(workspace, 20_000, f"w{number}", 200) for number in range(4)]
    said = [line for process in workers for line in process.communicate(timeout=PATIENCE_S)[0].splitlines()]

    assert verify(workspace).lines == 801
    assert len(list(folder_of(workspace).glob("*.jsonl"))) > 5
    assert {line["request_id"] for line in lines_of(workspace)[1:]} == set(said)
    assert len(said) == 800


def test_a_writer_that_is_killed_has_lost_no_line_that_it_acknowledged(workspace):
    process = worker(workspace, 20_000, "w", 1_000_000)
    acknowledged = [process.stdout.readline().strip() for _ in range(300)]
    process.kill()
    acknowledged += [line for line in process.communicate()[0].split("\n")[:-1] if line]

    write(workspace, 1)
    found = [line["request_id"] for line in of_patient(workspace, "p1")]
    assert found[: len(acknowledged)] == acknowledged
    assert verify(workspace).lines == len(found)


@pytest.mark.parametrize("cut", [1, 100, -1])
def test_a_half_written_line_is_taken_off_by_the_next_writer(copied, cut):
    workspace, file, noted = copied
    good = file.read_bytes()
    with file.open("ab") as stream:
        stream.write(good.splitlines(keepends=True)[0][:cut])
    assert verify(workspace, noted).lines == 3

    write(workspace, 1)
    assert verify(workspace, noted).lines == 4


def test_a_half_written_line_is_also_taken_off_by_a_writer_that_has_the_log_open(copied):
    workspace, file, noted = copied
    log = AuditLog(workspace)
    with file.open("ab") as stream:
        stream.write(b'{"at": "2024')

    log.append([entry(4)])
    log.append([entry(5)])
    log.close()
    assert verify(workspace, noted).lines == 5


def test_a_half_written_line_that_fills_a_segment_is_taken_off_too(workspace, small_segments):
    noted = write(workspace, 3)
    with (folder_of(workspace) / FIRST).open("ab") as stream:
        stream.write(b"x" * 2000)

    write(workspace, 3)
    assert verify(workspace, noted).lines == 6


def test_patients_stand_in_the_log_as_keyed_hashes(workspace):
    log = AuditLog(workspace)
    log.append([entry(1, ["pat-0001", "pat-0002"]), entry(2, ["pat-0002"])])
    log.close()

    assert "pat-" not in (folder_of(workspace) / FIRST).read_text()
    assert [len(of_patient(workspace, name)) for name in ("pat-0001", "pat-0002", "pat-0003")] == [1, 2, 0]


def test_nobody_but_its_owner_may_read_the_log(written):
    assert {oct(folder_of(written).stat().st_mode)[-3:], oct((folder_of(written) / FIRST).stat().st_mode)[-3:]} == {
        "700",
        "600",
    }


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A server in this process that wants tokens: (workspace, channel, its admin's metadata)."""
    folder = tmp_path_factory.mktemp("asked")
    make_access(folder / "keys", ("localhost",))
    workspace = Workspace(folder / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    with answering(workspace, read_config(folder / "keys" / "serve.toml", port=0)) as address:
        credentials = grpc.ssl_channel_credentials((folder / "keys" / "ca.pem").read_bytes())
        with grpc.secure_channel(address, credentials) as channel:
            yield workspace, channel, bearer(make_token(folder / "keys", "eve", ["admin"], 1))


RETRIEVAL, CATALOG = "/semiome.v1.RetrievalService", "/semiome.v1.CatalogService"
SEARCHES = [
    retrieval_pb2.SearchStreamRequest(query=retrieval_pb2.Query(video_id=name)) for name in ("v0-0", "x", "v1-0")
]
BATCH = retrieval_pb2.SearchBatchRequest(queries=[one.query for one in SEARCHES])
ITEMS = classification_pb2.ClassifyStreamRequest(items=[{"video_id": "v0-0"}, {"video_id": "x"}])


@pytest.mark.parametrize(
    ("name", "parts", "codes"),
    [
        (f"{CATALOG}/GetCounts", [b""], ["OK"]),
        (f"{CATALOG}/GetVideo", [b""], ["NOT_FOUND"]),
        (f"{CATALOG}/GetVideo", [b"\xff"], ["INVALID_ARGUMENT"]),
        (f"{RETRIEVAL}/Search", [SEARCHES[0].SerializeToString()], ["OK"]),
        (f"{RETRIEVAL}/Search", [b""], ["INVALID_ARGUMENT"]),
        (f"{RETRIEVAL}/SearchBatch", [BATCH.SerializeToString()], ["OK"]),
        (f"{RETRIEVAL}/SearchStream", [one.SerializeToString() for one in SEARCHES], ["BEGUN", "OK", "OK", "OK"]),
        ("/semiome.v1.ClassificationService/ClassifyStream", [ITEMS.SerializeToString()] * 2, ["BEGUN", "OK", "OK"]),
        ("/semiome.v1.AdminService/GetStatus", [b""], ["OK"]),
        ("/grpc.health.v1.Health/Check", [b""], []),
    ],
)
def test_each_answer_and_each_refusal_is_one_line(asked, name, parts, codes):
    workspace, channel, metadata = asked
    before = verify(workspace).lines if list(folder_of(workspace).glob("*.jsonl")) else 0
    code(channel, name, parts, metadata=metadata)

    added = lines_of(workspace)[before:]
    assert [(line["caller"], line["method"], line["code"]) for line in added] == [
        ("token:eve", name, one) for one in codes
    ]


def test_a_caller_whose_token_is_refused_stands_in_the_log_by_no_name_of_their_own(asked):
    workspace, channel, _ = asked
    before = len(lines_of(workspace))
    refused = [name for name in METHODS if code(channel, name, metadata=bearer("Mallory")) == "UNAUTHENTICATED"]

    added = lines_of(workspace)[before:]
    assert len(refused) > 30
    assert [line["method"] for line in added] == refused[:1]  # the others are counted
    assert {(line["caller"], line["code"]) for line in added} == {("nothing:unknown", "UNAUTHENTICATED")}
    assert claims()["sub"] not in {line["caller"] for line in added}


def test_the_line_of_a_search_names_all_whose_clips_were_shown(asked):
    workspace, channel, metadata = asked
    before = len(of_patient(workspace, "p0")), len(of_patient(workspace, "p1"))
    request = retrieval_pb2.SearchRequest(query=SEARCHES[0].query, options={"filter": {"patient_ids": ["p1"]}})
    code(channel, f"{RETRIEVAL}/Search", [request.SerializeToString()], metadata=metadata)

    after = len(of_patient(workspace, "p0")), len(of_patient(workspace, "p1"))
    assert after == (before[0] + 1, before[1] + 1)  # the one asked about, and the one found


def lines_of(workspace):
    segments = sorted(folder_of(workspace).glob("*.jsonl"))
    return [json.loads(line) for path in segments for line in path.read_text().splitlines()]


def test_what_cannot_be_logged_is_not_answered(stored):
    with serving(stored) as served, grpc.insecure_channel(served.address) as channel:
        name = f"{CATALOG}/GetCounts"
        assert {code(channel, name) for _ in range(20)} == {"OK"}
        size = (folder_of(stored) / FIRST).stat().st_size
        old = resource.prlimit(served.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(served.pid, resource.RLIMIT_FSIZE, (size + 1000, old[1]))  # as if the disk were nearly full
        codes = [code(channel, name) for _ in range(20)]
        resource.prlimit(served.pid, resource.RLIMIT_FSIZE, old)
        after = code(channel, name)

    answered = codes.count("OK")
    assert 0 < answered < 6
    assert set(codes[answered:]) <= {"FAILED_PRECONDITION", "INTERNAL"}
    assert after == "OK"
    assert [line["code"] for line in lines_of(stored)].count("OK") == 20 + answered + 1
    assert verify(stored).lines == len(lines_of(stored))


@pytest.mark.parametrize("how", ["removed", "renamed", "its folder removed"])
def test_a_log_that_is_taken_away_in_use_stands_there_again_whole(workspace, how, caplog):
    logs = [AuditLog(workspace) for _ in range(2)]
    path = folder_of(workspace) / "000001.jsonl"
    for number in range(6):
        logs[number % 2].append([Entry("token:a", "/a.B/C", "OK", str(number))])
        if number == 2:
            if how == "removed":
                path.unlink()
            elif how == "renamed":
                path.rename(path.with_suffix(".1"))
            else:
                shutil.rmtree(path.parent)
    for log in logs:
        log.close()
    assert [json.loads(line)["request_id"] for line in path.read_text().splitlines()] == list("012345")
    assert verify(workspace).lines == 6
    assert "taken away" in caplog.text
    assert sorted(one.name for one in path.parent.glob("*.tmp")) == []


@pytest.mark.parametrize("how", ["emptied", "replaced by an empty one"])
def test_a_log_that_is_emptied_in_use_does_not_verify(workspace, how):
    log = AuditLog(workspace)
    path = folder_of(workspace) / "000001.jsonl"
    log.append([Entry("token:a", "/a.B/C", "OK", "1")])
    if how == "emptied":
        os.truncate(path, 0)
    else:
        path.rename(path.with_suffix(".1"))
        path.touch()
    for _ in range(2):
        log.append([Entry("token:a", "/a.B/C", "OK", "2")])
    log.close()
    with pytest.raises(DamagedData, match="line 1 of"):
        verify(workspace)


def test_that_a_log_can_not_be_written_is_known_before_anybody_asks(workspace, monkeypatch):
    log = AuditLog(workspace)
    log.append([Entry("token:a", "/a.B/C", "OK", "1")])
    log.sync()
    size = (folder_of(workspace) / "000001.jsonl").stat().st_size
    log.sync()
    assert (folder_of(workspace) / "000001.jsonl").stat().st_size == size
    with (folder_of(workspace) / "000001.jsonl").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(audit, "_PATIENCE_S", 0.1)
        with pytest.raises(ServiceError, match="can't be written now"):
            log.sync()
    log.sync()
    os.close(log._descriptor)
    log._descriptor = os.open(folder_of(workspace) / "000001.jsonl", os.O_RDONLY)
    with pytest.raises(OSError, match=r"Invalid argument|Bad file"):
        log.sync()


@pytest.mark.parametrize("what", ["a file", "a dangling link"])
def test_a_folder_of_the_log_that_is_none_is_named(workspace, what):
    workspace.root.mkdir(exist_ok=True)
    if what == "a file":
        folder_of(workspace).write_text("")
    else:
        folder_of(workspace).symlink_to("nowhere")
    with pytest.raises(DamagedData, match="something else"):
        AuditLog(workspace)
