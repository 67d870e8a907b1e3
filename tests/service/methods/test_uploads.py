"""Videos that are uploaded: what resembles them, what is refused, and that nothing of them stays."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.folder import install_encoder
from index.custody.erasure import withhold
from index.errors import ServiceError
from index.query import ClipQuery, GroupBy, Options, VideoQuery
from index.tables.blocklist import lift
from index.tables.store import Store
from index.workspace import ERASED, Workspace
from protos import retrieval_pb2 as retrieval
from semiome.app import app
from service.calling import requests as calls
from service.client import Client
from service.config import ServerConfig
from tests.conftest import DATA, EXPECTED, install_head, publish_all
from tests.service.gate.attackers import answering
from tests.service.servers import running
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.needs("torch")

VIDEOS = DATA / "videos"


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_encoder):
    """(workspace, address) of a server over three encoded videos of three patients."""
    folder = tmp_path_factory.mktemp("uploads")
    names = ("h264_25fps.mp4", "vp9.webm", "exactly_10s.mp4")
    for name in names:
        shutil.copy(VIDEOS / name, folder / name)
    rows = [f"{name},p{number},v{number},TLE" for number, name in enumerate(names)]
    (folder / "manifest.csv").write_text("\n".join(["file_name,patient_id,video_id,label", *rows]))
    workspace = Workspace(folder / "workspace")
    install_encoder(tiny_encoder, workspace.encoders)
    encode(read_manifest(folder / "manifest.csv"), Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    publish_all(workspace, tiny_encoder.encoder_id)
    with running(workspace) as said:
        yield workspace, said["address"]


@pytest.fixture
def client(served):
    with Client(served[1]) as client:
        yield client


def leftovers(workspace):
    """Files of the workspace without a name that any process holds open."""
    found = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            place = str(descriptor.readlink())
            gone = place.startswith(f"{workspace.root}/") and place.endswith("(deleted)")
            found |= {place} if gone and "-journal " not in place else set()  # SQLite's are deleted while they are open
    return sorted(found)


def named(workspace):
    """Everything in the workspace but SQLite's journals, which come and go."""
    return {path for path in workspace.root.rglob("*") if not path.name.endswith("-journal")}


def test_an_uploaded_video_finds_itself_and_is_forgotten(served, client):
    workspace, _ = served
    before = client.counts()
    answer = client.search_by_video(VIDEOS / "vp9.webm", 5, Options(include_own_patient=True))

    stored = client.video("v1").clips
    assert (answer.known_as, answer.patient_known) == ("v1", True)
    assert len(answer.clips) == len(stored)
    best = answer.neighbours[0]
    assert best.similarity == pytest.approx(1.0, abs=1e-4)
    # Of its last two clips, which overlap, one is found.
    assert [hit.clip.video_id for hit in answer.neighbours].count("v1") == len(stored) - 1
    assert {hit.query_clip_id for hit in answer.neighbours} <= {clip.clip_id for clip in answer.clips}
    assert not answer.stored
    assert client.counts() == before
    assert leftovers(workspace) == []


def test_its_patient_is_left_out_and_groups_are_made(client):
    answer = client.search_by_video(VIDEOS / "vp9.webm", 5, Options(group_by=GroupBy.VIDEO), patient_id="p1")

    assert sorted(hit.clip.video_id for hit in answer.neighbours) == ["v0", "v2"]


def test_the_patient_of_a_stored_file_is_left_out_without_being_named(client):
    stored = client.search_by_video(VIDEOS / "vp9.webm", 9)
    other = client.search_by_video(VIDEOS / "short_7s.mp4", 9)

    assert "p1" not in {hit.clip.patient_id for hit in stored.neighbours}
    assert (stored.known_as, stored.patient_known) == ("v1", True)
    assert (other.known_as, other.patient_known) == ("", False)


def test_moments_of_an_upload_are_those_of_the_same_file_where_it_is_stored(served, client):
    ask = partial(client.search_by_video, VIDEOS / "vp9.webm", 1)
    stored = client.moments(VideoQuery("v1"), 5).moments

    found = ask(moments=5).moments

    assert [(one.video_id, one.start_s, one.end_s) for one in found] == [
        (one.video_id, one.start_s, one.end_s) for one in stored
    ]
    assert [one.similarity for one in found] == pytest.approx([one.similarity for one in stored], abs=1e-4)
    assert ask().moments == ()
    other = client.search_by_video(VIDEOS / "short_7s.mp4", 1, moments=5, patient_id="p1")
    assert other.moments
    assert "v1" not in {one.video_id for one in other.moments}
    clips = {clip.clip_id for clip in other.clips}
    assert all(pair.query_clip_id in clips for one in other.moments for pair in one.pairs)
    done = CliRunner().invoke(
        app, ["moments", "--server", served[1], "--file", str(VIDEOS / "vp9.webm"), "--k", "5", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert [one["video_id"] for one in json.loads(done.stdout)["moments"]] == [one.video_id for one in found]
    with pytest.raises(ServiceError, match="k of 1 to"):
        ask(moments=1001)


@pytest.mark.parametrize(("patient", "video"), [("P1", "fresh"), ("p9", "V-1")])
def test_an_upload_to_be_stored_under_an_id_that_looks_misspelled_is_refused(client, patient, video):
    with pytest.raises(ServiceError, match="looks like a misspelling"):
        client.search_by_video(VIDEOS / "short_7s.mp4", 1, patient_id=patient, store_as=video)


def test_it_is_classified_where_that_is_asked_for_and_a_head_is_loaded(served, client, tiny_encoder):
    workspace, _ = served
    ask = partial(client.search_by_video, VIDEOS / "vp9.webm", 3)
    assert ask(classify=True).judged is None
    install_head(workspace, tiny_encoder.encoder_id, width=768)
    until(lambda: client.counts().provenance.head_id)
    answer, stored = ask(classify=True), client.classify(VideoQuery("v1")).judged

    assert ask().judged is None
    assert [clip.clip_id for clip in answer.judged.clips] == [clip.clip_id for clip in answer.clips]
    assert answer.judged.evidence.neighbours == ()
    found, wanted = answer.judged.verdict, stored.verdict
    assert (found.label, found.votes, found.tie) == (wanted.label, wanted.votes, wanted.tie)
    assert found.probabilities == pytest.approx(wanted.probabilities, abs=1e-5)
    kept = client.search_by_video(VIDEOS / "h264_ntsc.mp4", 3, patient_id="p7", store_as="v7", classify=True).judged
    assert kept.verdict == client.classify(VideoQuery("v7")).judged.verdict
    assert leftovers(workspace) == []


def test_one_that_is_to_be_kept_is_found_from_then_on(client):
    answer = client.search_by_video(VIDEOS / "mjpeg.avi", 5, patient_id="p9", store_as="v9", label="exTLE")

    assert answer.stored
    video = client.video("v9")
    assert (video.video.patient_id, video.video.label) == ("p9", "exTLE")
    assert answer.clips == video.clips
    assert "p9" not in {hit.clip.patient_id for hit in answer.neighbours}
    assert client.search(ClipQuery(video.clips[0].clip_id)).neighbours
    with pytest.raises(ServiceError, match="stored already"):
        client.search_by_video(VIDEOS / "h264_gray.mp4", 5, patient_id="p8", store_as="v9")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_kind_of_file_is_embedded_or_refused_with_its_reason(served, client, name):
    workspace, _ = served
    if EXPECTED[name]["verdict"] == "ok":
        answer = client.search_by_video(VIDEOS / name, 3)
        seconds = answer.clips[-1].start_s + answer.clips[-1].valid_seconds
        assert seconds == pytest.approx(EXPECTED[name]["seconds"], abs=0.001)
    else:
        with pytest.raises(ServiceError) as caught:
            client.search_by_video(VIDEOS / name, 3)
        assert caught.value.code in {"INVALID_ARGUMENT"}
        assert name not in str(caught.value)
        assert str(workspace.root) not in str(caught.value)
    assert leftovers(workspace) == []


def upload(address, parts, timeout=PATIENCE_S):
    with grpc.insecure_channel(address) as channel:
        method = channel.stream_unary(calls.UPLOAD, retrieval.SearchByVideoRequest.SerializeToString)
        with pytest.raises(grpc.RpcError) as caught:
            method(iter(parts), timeout=timeout)
    return caught.value.code().name, caught.value.details()


def header(**values):
    return retrieval.SearchByVideoRequest(header=retrieval.UploadHeader(**{"size_bytes": 10, **values}))


def chunk(data=b"0123456789"):
    return retrieval.SearchByVideoRequest(chunk=data)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "a header before"),
        ([chunk()], "a header before"),
        ([header(), header()], "expected chunks"),
        ([header(), chunk(b"")], "expected chunks"),
        ([header(), chunk(b"x" * (2**20 + 1))], "expected chunks"),
        ([header(), chunk(b"short")], "got 5: the upload was cut"),
        ([header(), chunk(), chunk()], "got more"),
        ([header(size_bytes=0)], "expected a video of 1 to"),
        ([header(size_bytes=2**50)], "expected a video of 1 to"),
        ([header(patient_id="../p")], "expected a patient id"),
        ([header(patient_id="p", store_as_video_id="a/b")], "expected a video id"),
        ([header(store_as_video_id="v7")], "the patient's pseudonym"),
        ([header(label="TLE")], "only with a video that is stored"),
        ([header(label="tle")], "expected TLE or exTLE or nothing"),
        ([header(options=retrieval.SearchOptions(aligned=True, group_by=2))], "can't be aligned"),
        ([header(), chunk()], ""),
    ],
)
def test_what_is_no_upload_is_refused_and_nothing_stays(served, parts, says):
    workspace, address = served
    code, details = upload(address, parts)

    assert code == "INVALID_ARGUMENT"
    assert says in details
    assert leftovers(workspace) == []


def test_one_upload_too_many_waits_its_turn_and_a_caller_who_goes_leaves_nothing(served):
    workspace, address = served
    release = threading.Event()

    def slow():
        yield header()
        release.wait(PATIENCE_S)

    with grpc.insecure_channel(address) as channel, ExitStack() as more:
        method = channel.stream_unary(calls.UPLOAD, retrieval.SearchByVideoRequest.SerializeToString)
        held = [method.future(slow()) for _ in range(4)]
        before = named(workspace)
        until(lambda: len(leftovers(workspace)) == 4)
        assert named(workspace) == before, "a kill -9 would leave a file behind"
        other = more.enter_context(grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]))
        methods = [
            one.stream_unary(calls.UPLOAD, retrieval.SearchByVideoRequest.SerializeToString) for one in (channel, other)
        ]
        waiting = [methods[number % 2].future(iter([header(), chunk()])) for number in range(40)]
        until(lambda: sum(call.done() for call in waiting) == 40 - 32)
        assert {call.code().name for call in waiting if call.done()} == {"RESOURCE_EXHAUSTED"}
        for call in held:
            call.cancel()
        release.set()
        until(lambda: all(call.done() for call in waiting))
        assert {call.code().name for call in waiting} == {"RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"}
        until(lambda: not leftovers(workspace))
    assert upload(address, [header(), chunk()])[0] == "INVALID_ARGUMENT"


def test_an_erased_patient_does_not_come_back_under_a_misspelled_id(served):
    workspace, address = served
    withhold(workspace, "p2")
    try:
        with Client(address) as client, pytest.raises(ServiceError, match="misspelling of the id of a patient who was"):
            client.search_by_video(VIDEOS / "mjpeg.avi", 3, patient_id="P-2", store_as="new")
    finally:
        lift_again(workspace, "p2")


def lift_again(workspace, patient):
    """As if nothing had been: other tests search for this patient."""
    for path in workspace.erasures.glob(".pending-*"):
        path.unlink()
    with workspace.place.changing(ERASED):
        lift(workspace, patient)


def test_the_model_runs_in_one_thread_whoever_uploads(served, monkeypatch):
    """Each thread that it runs in keeps memory of its own for it: an hour's uploads took a seventh more."""
    workspace, _ = served
    threads, begin = set(), Embedder.begin

    def noted(embedder, clips):
        threads.add(threading.get_ident())
        return begin(embedder, clips)

    monkeypatch.setattr(Embedder, "begin", noted)
    with answering(workspace, ServerConfig(port=0)) as address, Client(address) as client:
        for _ in range(3):
            asking = [threading.Thread(target=client.counts) for _ in range(8)]  # who may take the next thread
            for one in asking:
                one.start()
            assert client.search_by_video(VIDEOS / "exactly_10s.mp4", 3).neighbours
            for one in asking:
                one.join()
    assert len(threads) == 1


def decoders_of(pid):
    """Decoding children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and b"encoder.video.worker" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def test_an_upload_that_is_given_up_ends_its_decoder_even_one_that_hangs(served):
    workspace, _ = served
    with running(workspace) as said, grpc.insecure_channel(said["address"]) as channel:
        method = channel.stream_unary(calls.UPLOAD, retrieval.SearchByVideoRequest.SerializeToString)
        data = (VIDEOS / "h264_25fps.mp4").read_bytes()
        call = method.future(iter([header(size_bytes=len(data)), chunk(data)]))
        until(lambda: decoders_of(said["pid"]))
        hung = set()

        def hang():
            for pid in decoders_of(said["pid"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    hung.add(pid)
            return call.done() or len(hung) > 1

        until(hang)
        assert not call.done()
        call.cancel()
        began = time.monotonic()
        until(lambda: not decoders_of(said["pid"]))
        assert time.monotonic() - began < 20  # a child that gives no sign of life is killed after a minute
        until(lambda: not leftovers(workspace))
        with Client(said["address"]) as client:
            assert client.search_by_video(VIDEOS / "h264_25fps.mp4", 3).neighbours


def test_an_upload_may_be_as_long_as_the_server_says(served, tmp_path):
    (tmp_path / "short.toml").write_text("max_upload_seconds = 11\n")
    with running(served[0], "--config", tmp_path / "short.toml") as said, Client(said["address"]) as client:
        assert client.search_by_video(VIDEOS / "exactly_10s.mp4", 3).neighbours
        with pytest.raises(ServiceError, match=r"longer than 11 seconds: cut it into shorter videos"):
            client.search_by_video(VIDEOS / "h264_25fps.mp4", 3)
