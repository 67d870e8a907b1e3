"""The two clients: what they try again and what not, paging, streaming, and who they say they are."""

import time
from concurrent import futures

import grpc
import pytest

from index.errors import InvalidInput, ServiceError
from index.query import ClipQuery, ExamplesQuery, GroupBy, Options, SearchFilter, VideoQuery
from index.workspace import Workspace
from service.aio_client import AioClient
from service.calling import generate_sync_client as twin
from service.calling import requests as calls
from service.calling.connection import Connection
from service.calling.requests import in_parts
from service.client import Client
from service.errors import TooMuch, rich_status, trailing
from service.metadata import SEEN
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.servers import running


class Stubborn(grpc.GenericRpcHandler):
    """A real server that fails as it is told and then answers with nothing; remembers what it was asked."""

    def __init__(self, *failures):
        self.failures, self.asked = list(failures), []

    def service(self, details):
        def answer(data, context):
            self.asked.append((details.method, dict(context.invocation_metadata()), time.monotonic()))
            if self.failures:
                failure = self.failures.pop(0)
                if isinstance(failure, TooMuch):
                    status = rich_status(failure, "r")
                    context.set_trailing_metadata(trailing(status, "r"))
                    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message)
                context.abort(failure, "as told")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def stubborn():
    """`stubborn(*failures)` gives (address, handler)."""
    servers = []

    def start(*failures):
        handler = Stubborn(*failures)
        server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", handler

    yield start
    for server in servers:
        server.stop(None)


AWAY, WRONG = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT


def test_what_may_be_repeated_is_tried_again_while_the_server_is_away(stubborn):
    address, handler = stubborn(AWAY, AWAY)
    with Client(address) as client:
        assert client.counts().total.clips == 0

    assert len(handler.asked) == 3


def test_what_may_not_be_repeated_is_asked_once(stubborn):
    address, handler = stubborn(AWAY, AWAY, AWAY)
    with Client(address) as client:
        for call in (client.build_generation, client.roll_back_generation, lambda: client.erase_patient("p")):
            with pytest.raises(ServiceError, match="UNAVAILABLE"):
                call()

    assert len(handler.asked) == 3


def test_what_is_wrong_stays_wrong_and_is_asked_once(stubborn):
    address, handler = stubborn(WRONG)
    with Client(address) as client, pytest.raises(ServiceError, match="INVALID_ARGUMENT: as told"):
        client.counts()

    assert len(handler.asked) == 1


def test_a_server_that_says_how_long_to_wait_is_given_that_time(stubborn):
    address, handler = stubborn(TooMuch("wait", 0.7, "calls"))
    with Client(address) as client:
        client.counts()

    assert handler.asked[1][2] - handler.asked[0][2] >= 0.7


def test_nobody_waits_till_tomorrow(stubborn):
    address, handler = stubborn(TooMuch("tomorrow", 30_000.0, "queries a day"))
    with Client(address) as client, pytest.raises(ServiceError, match="RESOURCE_EXHAUSTED: tomorrow"):
        client.counts()

    assert len(handler.asked) == 1


def test_tries_end_with_the_time_there_is(stubborn):
    address, _ = stubborn(*[AWAY] * 100)
    started = time.monotonic()
    with Client(Connection(address, timeout_s=1.0, tries=100)) as client, pytest.raises(ServiceError):
        client.counts()

    assert time.monotonic() - started < 30  # a hundred tries would take minutes


def test_the_synchronous_client_is_written_from_the_asynchronous_one():
    text = (twin.SERVICE / "aio_client.py").read_text()

    assert (twin.SERVICE / "client.py").read_text() == twin.synchronous(text)
    assert {name for name in vars(Client) if not name.startswith("_")} == {
        name for name in vars(AioClient) if not name.startswith("_")
    }


async def test_the_awaiting_client_tries_again_too(stubborn):
    address, handler = stubborn(AWAY, AWAY)
    async with AioClient(address) as client:
        assert (await client.counts()).total.clips == 0

    assert len(handler.asked) == 3


def test_the_token_is_read_for_each_call_and_the_last_answer_named(stubborn, tmp_path):
    address, handler = stubborn()
    token = tmp_path / "token"
    token.write_text("first\n")
    with Client(Connection(address, token_file=token)) as client:
        client.counts()
        token.write_text("second\n")
        client.connection._seen.value = "000002-ab/7"
        client.counts()

    assert [asked["authorization"] for _, asked, _ in handler.asked] == ["Bearer first", "Bearer second"]
    assert [asked.get(SEEN) for _, asked, _ in handler.asked] == [None, "000002-ab/7"]


@pytest.mark.parametrize("address", ["192.0.2.1:50051", "hospital.example:443", "[2001:db8::1]:1"])
def test_a_token_never_goes_unencrypted_over_a_network(address, tmp_path):
    with pytest.raises(InvalidInput, match="unencrypted"):
        Connection(address, token_file=tmp_path / "token")
    Connection(address, token_file=tmp_path / "token", ca=tmp_path / "ca.pem")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_on_this_machine_it_may(address, tmp_path):
    assert not Connection(address, token_file=tmp_path / "token").encrypted


def test_a_certificate_needs_its_key(tmp_path):
    with pytest.raises(InvalidInput, match="belong together"):
        Connection("localhost:1", certificate=tmp_path / "c.pem")


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InvalidInput, match="can't be read"), Client(Connection("localhost:1", ca=tmp_path / "no")):
        pass


def test_parts_hold_everything_in_order():
    assert list(in_parts(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_parts([], 3)) == []


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("served") / "workspace")
    commit(workspace, make_cohort(patients=6, videos=4, clips=3))
    publish_all(workspace)
    install_head(workspace)
    with running(workspace) as said:
        yield said["address"]


class Unreadable(Exception):
    pass


async def test_what_a_callers_own_queries_raise_is_raised_after_the_answers_to_those_before(served):
    def queries():
        yield ClipQuery("absent")
        raise Unreadable("my file")

    with Client(served) as client:
        answers = client.search_stream(queries())
        assert next(answers).code == "NOT_FOUND"
        with pytest.raises(Unreadable, match="my file"):
            next(answers)
    async with AioClient(served) as client:
        answers = client.search_stream(queries())
        assert (await anext(answers)).code == "NOT_FOUND"
        with pytest.raises(Unreadable, match="my file"):
            await anext(answers)


async def test_a_film_that_is_not_there_or_can_not_be_read_on_is_the_callers_error(served, tmp_path):
    def parts():
        yield b"x" * 10
        raise Unreadable

    async def awaited_parts():
        for part in parts():
            yield part

    (tmp_path / "folder").mkdir()
    with Client(served) as client:
        for path, kind in ((tmp_path / "absent.mp4", FileNotFoundError), (tmp_path / "folder", IsADirectoryError)):
            with pytest.raises(kind):
                client.search_by_video(path)
        with pytest.raises(Unreadable):
            client.search_by_stream(parts(), 1000)
    async with AioClient(served) as client:
        with pytest.raises(FileNotFoundError):
            await client.search_by_video(tmp_path / "absent.mp4")
        with pytest.raises(Unreadable):
            await client.search_by_stream(awaited_parts(), 1000)


async def test_both_clients_get_the_same_answers(served, monkeypatch):
    monkeypatch.setattr("service.client.PAGE", 5)
    monkeypatch.setattr("service.aio_client.PAGE", 5)
    clip = ClipQuery(make_cohort(patients=6, videos=4, clips=3)[0][1][0].clip.clip_id)
    where = SearchFilter(labels=frozenset({"TLE"}))
    options = Options(where, GroupBy.VIDEO)
    with Client(served) as waits:
        async with AioClient(served) as awaits:
            assert (await awaits.search(clip, 5)).neighbours == waits.search(clip, 5).neighbours
            assert await awaits.search(clip, 5, options) == waits.search(clip, 5, options)
            examples = ExamplesQuery((VideoQuery("v0-0"),), (VideoQuery("v1-0"),))
            assert await awaits.search(examples, 4) == waits.search(examples, 4)
            assert await awaits.search_batch([clip, ClipQuery("x")]) == waits.search_batch([clip, ClipQuery("x")])
            assert [one async for one in awaits.search_stream([clip] * 3)] == list(waits.search_stream([clip] * 3))
            moments = waits.moments(VideoQuery("v1-1"), 4, where, include_own_patient=True)
            assert await awaits.moments(VideoQuery("v1-1"), 4, where, include_own_patient=True) == moments
            assert len(moments.moments) == 4
            assert await awaits.classify(clip) == waits.classify(clip)
            assert await awaits.classify_batch([clip]) == waits.classify_batch([clip])
            items = [clip, VideoQuery("v1-1"), ClipQuery("x")] * 700
            assert [one async for one in awaits.classify_stream(items)] == list(waits.classify_stream(items))
            videos = list(waits.videos(where))
            assert [video async for video in awaits.videos(where)] == videos
            assert [video.video_id for video in videos] == sorted(f"v{p}-{v}" for p in (0, 3) for v in range(4))
            assert [one.patient_id for one in waits.patients()] == [f"p{n}" for n in range(6)]
            assert await awaits.video("v1-1") == waits.video("v1-1")
            assert await awaits.counts() == waits.counts()
            assert (await awaits.status()).provenance == waits.status().provenance
            assert (await awaits.ask(calls.list_operations())) == waits.operations() == ()
            (mine,), (theirs,) = await awaits.embeddings([clip.clip_id]), waits.embeddings([clip.clip_id])
            assert mine.vector.tolist() == theirs.vector.tolist()
