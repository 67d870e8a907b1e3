"""Whatever bytes come in, however they come: a documented status, no bug, and others are answered meanwhile."""

import json
import threading
import time
from contextlib import ExitStack, contextmanager

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from index.workspace import Workspace
from protos import common_pb2, retrieval_pb2
from service.audit.trail import folder_of
from service.config import ServerConfig
from service.metadata import DETAILS
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.gate.attackers import (
    METHODS,
    PREFACE,
    answering,
    code,
    connected,
    outcome,
    raw_calls,
    request_class,
    serving,
    start,
    with_one_string,
)
from tests.waiting import PATIENCE_S, cpu_s, until

RETRIEVAL, CLASSIFICATION = "/semiome.v1.RetrievalService", "/semiome.v1.ClassificationService"
CATALOG, ADMIN = "/semiome.v1.CatalogService", "/semiome.v1.AdminService"
REVIEW = "/semiome.v1.ReviewService"
COUNTS, SEARCH = f"{CATALOG}/GetCounts", f"{RETRIEVAL}/Search"
DOCUMENTED = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "DATA_LOSS"),
    *("UNAUTHENTICATED", "PERMISSION_DENIED"),
}
STARTS_WORK = {f"{ADMIN}/BuildGeneration", f"{ADMIN}/ErasePatient"}
FUZZED = sorted(METHODS.keys() - STARTS_WORK)
CLIP = make_cohort()[0][1][0].clip.clip_id
VECTOR = {"values": np.arange(8, dtype="<f4").tobytes(), "encoder_id": "enc1", "patient_id": "p0"}
OPTIONS = {
    "k": 3,
    "group_by": 2,
    "mean_of": 2,
    "filter": {"labels": ["TLE"], "any_of": [{"recorded_from": "2024-01-01"}]},
}
VALID = {
    f"{RETRIEVAL}/Search": {"query": {"vector": VECTOR}, "options": OPTIONS},
    f"{RETRIEVAL}/SearchBatch": {"queries": [{"clip_id": CLIP}, {"video_id": "v1-0"}], "options": OPTIONS},
    f"{RETRIEVAL}/SearchStream": {"query": {"video_id": "v1-0"}, "options": {"group_by": 2, "aligned": True}},
    f"{RETRIEVAL}/Recommend": {"positive": [{"clip_id": CLIP}], "negative": [{"video_id": "v2-0"}], "options": OPTIONS},
    f"{RETRIEVAL}/FindMoments": {"query": {"video_id": "v1-0"}, "k": 3, "filter": OPTIONS["filter"]},
    f"{RETRIEVAL}/GetSimilarity": {"query": {"video_id": "v1-0"}, "video_id": "v2-0"},
    f"{RETRIEVAL}/SearchByVideo": {"header": {"size_bytes": 9, "patient_id": "p1", "options": OPTIONS}},
    f"{CLASSIFICATION}/Classify": {"item": {"video_id": "v1-0"}},
    f"{CLASSIFICATION}/ClassifyBatch": {"items": [{"video_id": "v1-0"}, {"clip_id": CLIP}]},
    f"{CLASSIFICATION}/ClassifyStream": {"items": [{"video_id": "v1-0"}, {"clip_id": CLIP}]},
    f"{CLASSIFICATION}/GetSigns": {"video_id": "v1-0"},
    f"{CATALOG}/GetVideo": {"video_id": "v1-0"},
    f"{CATALOG}/ListVideos": {"filter": OPTIONS["filter"], "page_size": 2, "page_token": "djEtMA=="},
    f"{CATALOG}/GetPatient": {"patient_id": "p1"},
    f"{CATALOG}/ListPatients": {"page_size": 2, "page_token": "cDE="},
    f"{CATALOG}/GetEmbeddings": {"clip_ids": [CLIP]},
    f"{REVIEW}/GetPreview": {"video_id": "v1-0", "offset_bytes": 3, "length_bytes": 4},
    f"{REVIEW}/GetThumbnails": {"video_id": "v1-0", "clip_index": 1},
    f"{REVIEW}/GetMap": {"offset": 3, "page_size": 7},
    f"{REVIEW}/SaveFeedback": {
        "feedback": {"video_id": "v1-0", "query_video_id": "v2-0", "relevance": 1, "semiology": ["Semiology-tonic"]}
    },
    f"{REVIEW}/ListFeedback": {"video_ids": ["v1-0"]},
    f"{REVIEW}/DeleteFeedback": {"feedback_id": "0123456789abcdef"},
    f"{REVIEW}/GetReport": {"report_id": "ablation"},
    f"{ADMIN}/ActivateGeneration": {"generation": "000001-1f0c9a2b"},
    f"{ADMIN}/ActivateHead": {"head_id": "0123456789abcdef"},
    f"{ADMIN}/GetOperation": {"operation_id": "0123456789abcdef"},
    f"{ADMIN}/CancelOperation": {"operation_id": "0123456789abcdef"},
}
HELD_UP_S = 30.0
"""Whoever is not answered within this is held up: much less than what the attackers below would hold on."""
FEW = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server process: (workspace, served)."""
    workspace = Workspace(tmp_path_factory.mktemp("served") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    with serving(workspace) as served:
        yield workspace, served


@pytest.fixture(scope="module")
def address(served):
    return served[1].address


@pytest.fixture(scope="module")
def channel(address):
    with grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture
def others_are_answered(address):
    """What checks that somebody else is answered meanwhile."""

    def check():
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            assert code(channel, COUNTS, timeout=HELD_UP_S) == "OK"
            assert code(channel, SEARCH, [message(f"{RETRIEVAL}/SearchStream")], timeout=HELD_UP_S) == "OK"

    yield check
    check()


def message(name):
    return request_class(name)(**VALID.get(name, {})).SerializeToString()


@pytest.mark.parametrize("name", FUZZED)
@FEW
@given(data=st.binary(max_size=300))
def test_random_bytes_get_a_documented_status(channel, name, data):
    assert code(channel, name, [data]) in DOCUMENTED


@pytest.mark.parametrize("name", sorted(VALID))
@FEW
@given(flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4), cut=st.integers(0, 60))
def test_spoiled_messages_get_a_documented_status(channel, name, flips, cut):
    data = bytearray(message(name))
    for place, value in flips:
        data[place % len(data)] ^= value
    spoiled = bytes(data[: max(len(data) - cut, 0)] if cut < 30 else data)

    assert code(channel, name, [spoiled, spoiled]) in DOCUMENTED


@pytest.mark.parametrize(
    "name", [name for name in METHODS if not METHODS[name].input_type.full_name.startswith("grpc")]
)
def test_what_is_no_message_is_refused_as_that(channel, name):
    said = {outcome(channel, name, [data])[0] for data in (b"\xff" * 100, b"\x0a\xff\xff", b"\x08", b"\x0b\x0b\x0b")}

    assert said == {"INVALID_ARGUMENT"}


@pytest.mark.parametrize("name", [name for name in METHODS if "Health/Check" not in name])
def test_a_message_that_is_too_large_is_refused(channel, name):
    assert code(channel, name, [b"\0" * (4 * 2**20 + 1)]) == "RESOURCE_EXHAUSTED"


TRICKS = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x",
    "s3://bucket/x",
    "concat:a|b",
    "\0",
    "p1\0.jsonl",
    "' OR 1=1 --",
    '"; DROP TABLE clips; --',
    "%s%s%n{0}{x}$(id)`id`",
    "p1\r\nforged: line",
    "ｐ１ ²Ⅻ\u202e\U0001f4a3\ufeff\ud7ff",
    "a" * 255,
    "a" * 300,
    "é" * 10_000,
    "CURRENT",
    ".",
    "-",
)


@pytest.mark.parametrize("name", [name for name in FUZZED if name.startswith("/semiome")])
def test_ids_that_are_paths_addresses_or_code_find_nothing(channel, name):
    kind, good = request_class(name), VALID.get(name, {})
    said = {}
    for trick in TRICKS:
        for bad in with_one_string(METHODS[name].input_type, trick, depth=3):
            request = kind(**good)
            request.MergeFrom(kind(**bad))
            said[trick[:40], str(bad)[:80]] = code(channel, name, [request.SerializeToString()])

    assert {at: one for at, one in said.items() if one not in DOCUMENTED - {"DATA_LOSS"}} == {}


@pytest.mark.parametrize("depth", [5, 50, 98, 5000])
@pytest.mark.parametrize("part", ["any_of", "none_of"])
def test_filters_nested_too_deep_are_refused(channel, depth, part):
    number = common_pb2.Filter.DESCRIPTOR.fields_by_name[part].number
    data = b""
    for _ in range(depth - 1):
        data = field(number, data)
    query = retrieval_pb2.SearchRequest(query={"clip_id": CLIP}).SerializeToString()
    data = query + field(2, field(3, data))

    assert code(channel, SEARCH, [data]) == "INVALID_ARGUMENT"


def field(number, data):
    """A field of bytes, as it stands in a message."""
    length, size = b"", len(data)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def test_more_filters_than_may_be_are_refused(channel):
    where = {"any_of": [{"labels": ["TLE"]}] * 32}
    request = retrieval_pb2.SearchRequest(query={"clip_id": CLIP}, options={"filter": where})

    assert code(channel, SEARCH, [request.SerializeToString()]) == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (f"{RETRIEVAL}/SearchBatch", 1),
        (f"{RETRIEVAL}/Recommend", 1),
        (f"{RETRIEVAL}/Recommend", 2),
        (f"{CLASSIFICATION}/ClassifyBatch", 1),
        (f"{CLASSIFICATION}/ClassifyStream", 1),
        (f"{CATALOG}/GetEmbeddings", 1),
    ],
)
@pytest.mark.parametrize("count", [1001, 2_000_000])
def test_too_many_items_are_refused_unseen(served, channel, others_are_answered, name, number, count):
    with costing_no_more_than_parsing(served, name, data := field(number, b"") * count):
        assert code(channel, name, [data]) == "INVALID_ARGUMENT"


@pytest.mark.parametrize("size", [1_000_000])
def test_a_filter_of_a_million_names_holds_nobody_up(served, channel, others_are_answered, size):
    data = request_class(SEARCH)(query={"clip_id": CLIP}).SerializeToString()
    data += field(2, field(3, field(3, b"") * size))
    with costing_no_more_than_parsing(served, SEARCH, data):
        assert code(channel, SEARCH, [data]) in DOCUMENTED


@contextmanager
def costing_no_more_than_parsing(served, name, data):
    """Whatever other processes do: the server spends no more on a message than some times what parsing takes here."""
    began = time.process_time()
    request_class(name).FromString(data)
    parsing, before = time.process_time() - began, cpu_s(served[1].pid)
    yield
    assert cpu_s(served[1].pid) - before < 10 * parsing + 0.5  # 1.3 times where this was written


BAD_VECTORS = {
    "NaN": [np.nan] * 8,
    "one NaN": [1, 2, 3, 4, 5, 6, 7, np.nan],
    "infinite": [np.inf] * 8,
    "zero": [0.0] * 8,
    "minus zero": [-0.0] * 8,
    "next to nothing": [1e-45] * 8,
    "none": [],
    "short": [1.0] * 7,
    "long": [1.0] * 9,
    "two": [1.0] * 16,
}


def search_by(values, **more):
    values = np.array(values, "<f4").tobytes()
    return retrieval_pb2.SearchRequest(query={"vector": {"values": values, "encoder_id": "enc1"}}, **more)


@pytest.mark.parametrize("kind", BAD_VECTORS)
@pytest.mark.parametrize("exact", [False, True])
def test_vectors_that_are_none_are_refused(channel, kind, exact):
    request = search_by(BAD_VECTORS[kind], options={"exact": exact})

    assert code(channel, SEARCH, [request.SerializeToString()]) == "INVALID_ARGUMENT"


def test_a_vector_of_any_length_is_a_direction(channel):
    direction = np.array([1, -1, 1, 1, -1, 1, 1, -1], np.float32)
    found = []
    for length in (1e-9, 1.0, 3.4e38):
        data = outcome(channel, SEARCH, [search_by(direction * np.float32(length)).SerializeToString()])[1]
        found.append([hit.clip.clip_id for hit in retrieval_pb2.SearchResponse.FromString(data).hits])

    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 10


def test_slow_readers_hold_nobody_up(address, others_are_answered):
    go_on = threading.Event()

    def forever(data):
        for _ in range(2000):
            yield data
        go_on.wait(PATIENCE_S)

    with ExitStack() as stack:
        for name in (f"{RETRIEVAL}/SearchStream", f"{CLASSIFICATION}/ClassifyStream"):
            for _ in range(5):
                alone = [("grpc.use_local_subchannel_pool", 1)]
                channel = stack.enter_context(grpc.insecure_channel(address, alone))
                start_stream(channel, name, forever(message(name)))
        time.sleep(0.5)
        others_are_answered()
        go_on.set()


def start_stream(channel, name, requests):
    return channel.stream_stream(name)(requests, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    "said", [b"", PREFACE[:10], PREFACE, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\xff" * 500]
)
def test_connections_that_are_half_open_hold_nobody_up(address, others_are_answered, said):
    with ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(connected(address))
            connection.sendall(said)
        others_are_answered()


def test_rapid_resets_hold_nobody_up(address, others_are_answered):
    for name in (f"{RETRIEVAL}/SearchStream", COUNTS):
        raw_calls(address, 300, name, reset=True)
        others_are_answered()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"semiome-seen", "g/²".encode()),
        (b"semiome-seen", b"g/" + b"9" * 100),
        (b"semiome-seen", b"/" * 100),
        (b"semiome-seen", b"\xff\xfe"),
        (b"authorization", "Bearer é".encode()),
        (b"authorization", b"Bearer \xff\xfe"),
        (b"traceparent", b"\xff"),
        (b"grpc-timeout", b"99999999H"),
        (b"grpc-timeout", b"-1S"),
        (b"grpc-encoding", b"nonsense"),
        (b"x-bin", b"!!!"),
    ],
)
def test_metadata_that_no_library_sends_is_no_bug(served, others_are_answered, key, value):
    workspace, process = served
    before = len(audited(workspace))
    raw_calls(process.address, 1, COUNTS, (key, value))

    assert {line["code"] for line in audited(workspace)[before:]} <= {*DOCUMENTED, "CANCELLED", "DEADLINE_EXCEEDED"}


def test_a_deadline_that_is_over_as_the_call_comes_in_reads_nothing(served):
    workspace, process = served
    before = len(audited(workspace))
    raw_calls(process.address, 5, COUNTS, (b"grpc-timeout", b"0n"))

    assert {line["code"] for line in audited(workspace)[before:]} <= {"DEADLINE_EXCEEDED", "CANCELLED"}


def audited(workspace):
    segments = sorted(folder_of(workspace).glob("*.jsonl"))
    return [json.loads(line) for path in segments for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def narrow(served):
    """A channel to a server of the same workspace that answers four calls at once."""
    with answering(served[0], ServerConfig(port=0, max_calls=4)) as address, grpc.insecure_channel(address) as channel:
        yield channel


@contextmanager
def open_streams(channel, count):
    """So many calls that stand open, each with one answer read."""
    over = threading.Event()

    def requests():
        yield message(f"{RETRIEVAL}/SearchStream")
        over.wait(PATIENCE_S)

    calls = [start_stream(channel, f"{RETRIEVAL}/SearchStream", requests()) for _ in range(count)]
    try:
        for call in calls:
            next(call)
        yield calls
    finally:
        for call in calls:
            call.cancel()
        over.set()


def open_at_once(channel, count):
    """Whether so many calls can stand open, which are cancelled then."""
    try:
        with open_streams(channel, count):
            return True
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


def answers_again(channel, name=COUNTS):
    """Whether a call is answered in the end: a cancelled one may take a moment to give its place or stream back."""
    come_again = {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}
    return until(lambda: (said := code(channel, name)) not in come_again and said) == "OK"


def test_one_call_more_than_may_be_is_told_when_to_come_again(narrow):
    with open_streams(narrow, 4):
        call = start(narrow, COUNTS, [b""])
        error = call.exception()

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS])
    waits = [part for part in status.details if part.Is(error_details_pb2.RetryInfo.DESCRIPTOR)]
    assert len(waits) == 1
    assert answers_again(narrow)


def test_health_is_told_even_when_no_call_is_taken(narrow):
    with open_streams(narrow, 4):
        assert code(narrow, "/grpc.health.v1.Health/Check") == "OK"


def test_calls_that_are_cancelled_take_no_place(narrow):
    for _ in range(50):
        assert until(lambda: open_at_once(narrow, 3))  # those of the round before may take a moment to end

    assert until(lambda: open_at_once(narrow, 4))


def test_calls_that_are_cancelled_as_they_are_made_take_no_place(narrow):
    for _ in range(200):
        start(narrow, SEARCH, [message(SEARCH)]).cancel()

    assert answers_again(narrow)
    with open_streams(narrow, 4):
        pass
