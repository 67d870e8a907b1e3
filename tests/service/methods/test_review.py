"""What the review page asks the service for: films in parts, thumbnails, the map, feedback, reports; and for whom."""

import json
import os
from dataclasses import replace

import grpc
import numpy as np
import pytest

from index.errors import ServiceError
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.tables.store import Store
from index.vectors.generation import _name_digest, build_generation
from index.vectors.publication import publish
from index.workspace import Workspace
from protos import review_pb2 as review
from service.audit import trail as audit_trail
from service.calling import requests as calls
from service.client import Client
from service.config import ServerConfig
from tests.conftest import commit, make_cohort, make_video, publish_all
from tests.service.gate.attackers import answering

COHORT = make_cohort()
FILM = bytes(range(256)) * 10_000  # 2.4 MiB, and the service does not look into it
SAID = Feedback("v1-0", "", label="exTLE", semiology=("Semiology-tonic",), start_s=1.0, end_s=2.0, note="arm")


def put_preview(workspace, video_id, film=FILM):
    folder = workspace.previews / video_id
    folder.mkdir(parents=True)
    (folder / "film.mp4").write_bytes(film)
    (folder / "0.jpg").write_bytes(b"\xff\xd8 strip")
    source = {video.video_id: video.source_sha256 for video, _ in COHORT}.get(video_id, "")
    (folder / "preview.json").write_text(json.dumps({"fps": 25, "source_sha256": source}))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("review") / "workspace")
    commit(workspace, COHORT)
    publish_all(workspace)
    put_preview(workspace, "v1-0")
    put_preview(workspace, "v9-9")  # of a video that is not stored
    return workspace


@pytest.fixture(scope="module")
def address(workspace):
    with answering(workspace, ServerConfig(port=0)) as address:
        yield address


@pytest.fixture
def client(address):
    with Client(address) as client:
        yield client


@pytest.fixture
def ask(address):
    """Makes any call of `service.calling.requests`."""
    with Client(address) as client:
        yield client.ask


def parts(address, *asked):
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_stream(
            calls.PREVIEW, review.GetPreviewRequest.SerializeToString, review.GetPreviewResponse.FromString
        )
        return list(method(calls.preview_request(*asked)))


def test_everybody_learns_who_they_are(ask):
    caller = ask(calls.caller())

    assert caller.identity == "loopback:local"
    assert caller.roles == ("admin", "classifier", "clinician", "reader", "trainer")


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 1), (5, 7), (262_000, 262_144), (len(FILM) - 3, 0), (len(FILM) - 1, 10_000)]
)
def test_any_part_of_a_film_comes_as_it_is(address, offset, length):
    found = parts(address, "v1-0", offset, length)

    assert b"".join(part.chunk for part in found) == FILM[offset : offset + length if length else None]
    assert (found[0].size_bytes, found[0].frames_per_second) == (len(FILM), 25)
    assert all(len(part.chunk) <= 256 * 1024 for part in found)
    assert {part.size_bytes for part in found[1:]} <= {0}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("v1-0", len(FILM), 0), "INVALID_ARGUMENT"),
        (("v1-0", 2**63, 0), "INVALID_ARGUMENT"),
        (("v0-0", 0, 0), "NOT_FOUND"),
        (("v9-9", 0, 0), "NOT_FOUND"),
        (("../previews/v1-0", 0, 0), "NOT_FOUND"),
        (("", 0, 0), "NOT_FOUND"),
    ],
    ids=["beyond its end", "far beyond", "no preview", "not stored", "a path", "nothing"],
)
def test_what_is_no_part_of_a_film_is_refused(address, asked, code):
    with pytest.raises(grpc.RpcError) as caught:
        parts(address, *asked)

    assert caught.value.code().name == code


def test_thumbnails_of_a_clip_and_of_none(ask):
    assert ask(calls.thumbnails("v1-0", 0)) == b"\xff\xd8 strip"
    for video, clip in (("v1-0", 1), ("v1-0", 2**32 - 1), ("v9-9", 0)):
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            ask(calls.thumbnails(video, clip))


def test_the_map_has_every_clip_once_whatever_the_pages(workspace, ask):
    pages, offset = [], 0
    while not pages or offset < pages[0].total:
        pages.append(ask(calls.map_page(offset, 7)))
        offset += 7
    stored = Store(workspace).clips("enc1")
    found = [
        (page.videos[video].video_id, int(clip))
        for page in pages
        for video, clip in zip(
            np.frombuffer(page.video_of_point, "<u4"), np.frombuffer(page.clip_index_of_point, "<u4"), strict=True
        )
    ]

    assert sorted(found) == sorted((clip.video_id, clip.clip_index) for clip in stored.clips)
    assert {page.total for page in pages} == {60}
    assert pages[0].method == "pca"
    positions = np.concatenate([np.frombuffer(page.positions, "<f4").reshape(-1, 2) for page in pages])
    assert positions.shape == (60, 2)
    assert np.abs(positions).max() <= 1
    one = pages[0].videos[0]
    video = Store(workspace).videos()[one.video_id]
    assert (one.patient_id, one.label, one.semiology, one.recorded_at) == (
        *(video.patient_id, video.label, video.semiology, video.recorded_at),
    )


@pytest.mark.parametrize(("offset", "size"), [(60, 7), (2**32 - 1, 7), (0, 10_001)])
def test_a_page_beyond_the_map_is_refused(ask, offset, size):
    with pytest.raises(ServiceError, match="INVALID_ARGUMENT"):
        ask(calls.map_page(offset, size))


def test_what_was_removed_since_is_not_on_the_map(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    store = commit(workspace, COHORT)
    publish_all(workspace)
    gone = COHORT[0][1][0].clip.clip_id
    store.writable("clips_enc1").delete(f"clip_id = '{gone}'")
    with answering(workspace, ServerConfig(port=0)) as address, Client(address) as client:
        assert client.ask(calls.map_page(0, 0)).total == 59


def test_feedback_is_kept_with_the_callers_name_and_whose_videos_it_concerns(workspace, client):
    judged = Feedback("v2-1", "", query_video_id="v1-0", relevance="not_relevant")
    saved = [client.save_feedback(SAID), client.save_feedback(judged)]

    assert [one.author for one in saved] == ["loopback:local"] * 2
    assert replace(saved[0], feedback_id="", author="", at="") == SAID
    assert list(client.feedback(["v1-0"]))[-2:] == saved
    assert list(client.feedback(["v2-1"]))[-1:] == saved[1:]
    kept = FeedbackStore(workspace).all()[-2:]
    assert [(one.patient_id, one.query_patient_id) for one in kept] == [("p1", ""), ("p2", "p1")]
    client.delete_feedback(saved[0].feedback_id)
    assert saved[0] not in list(client.feedback())


def test_a_caller_does_not_choose_author_id_or_time(client):
    saved = client.save_feedback(replace(SAID, feedback_id="0" * 16, author="token:boss", at="1999-01-01"))

    assert (saved.author, saved.feedback_id == "0" * 16, saved.at[:2]) == ("loopback:local", False, "20")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"video_id": "v9-9"}, "NOT_FOUND"),
        ({"video_id": ""}, "INVALID_ARGUMENT"),
        ({"query_video_id": "v9-9"}, "NOT_FOUND"),
        ({"clip_id": "0" * 32}, "NOT_FOUND"),
        ({"clip_id": COHORT[0][1][0].clip.clip_id}, "INVALID_ARGUMENT"),
        ({"label": "both"}, "INVALID_ARGUMENT"),
        ({"note": "x" * 3000}, "INVALID_ARGUMENT"),
    ],
    ids=["not stored", "no video", "query not stored", "no such clip", "another video's clip", "label", "long note"],
)
def test_feedback_on_what_is_not_there_or_says_nothing_known_is_refused(client, changed, code):
    before = list(client.feedback())
    with pytest.raises(ServiceError, match=code):
        client.save_feedback(replace(SAID, **changed))

    assert list(client.feedback()) == before


def test_reports_are_listed_newest_first_and_nothing_else_is_read(workspace, ask):
    for name, text in (("ablation", "<p>one</p>"), ("second", "<p>two</p>"), (".hidden", "no")):
        (workspace.runs / name).mkdir(parents=True)
        (workspace.runs / name / "report.html").write_text(text)
    (workspace.runs / "linked").symlink_to(workspace.store)
    found = ask(calls.list_reports())

    assert {one.report_id for one in found} == {"ablation", "second"}
    assert [one.written_at for one in found] == sorted((one.written_at for one in found), reverse=True)
    assert ask(calls.report("ablation")) == "<p>one</p>"
    for name in (".hidden", "../store", "linked", "", "ablation/../second"):
        with pytest.raises(ServiceError, match="NOT_FOUND"):
            ask(calls.report(name))


def test_who_looked_at_whose_film_stands_in_the_audit_log(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, COHORT)
    publish_all(workspace)
    put_preview(workspace, "v1-0")
    with answering(workspace, ServerConfig(port=0)) as address, Client(address) as client:
        parts(address, "v1-0", 0, 10)
        client.ask(calls.thumbnails("v1-0", 0))
        client.save_feedback(SAID)

    methods = [line["method"].rpartition("/")[2] for line in audit_trail.of_patient(workspace, "p1")]
    assert methods == ["GetPreview", "GetThumbnails", "SaveFeedback"]


def test_an_index_without_a_map_says_so(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    random = np.random.default_rng(0)
    commit(workspace, [make_video(0, 0, 3, random)])
    manifest = build_generation(Store(workspace).clips("enc1"), workspace.generations)
    folder = workspace.generations / manifest.generation
    values = json.loads((folder / "manifest.json").read_text())
    del values["map"], values["digests"]["map.npy"]
    text = json.dumps(values, indent=2) + "\n"
    name = f"000002-{_name_digest(text.encode())}"
    folder.rename(workspace.generations / name)
    (workspace.generations / name / "manifest.json").write_text(text)
    (workspace.generations / name / "map.npy").unlink()
    publish(workspace, name)
    told = pytest.raises(ServiceError, match=r"has no map: build it again")
    with answering(workspace, ServerConfig(port=0)) as address, Client(address) as client, told:
        client.ask(calls.map_page(0, 0))


@pytest.mark.parametrize("harm", ["folder", "pipe", "bytes"])
def test_a_report_that_can_not_be_read_hangs_nothing(workspace, ask, harm):
    folder = workspace.runs / f"damaged-{harm}"
    folder.mkdir(parents=True)
    path = folder / "report.html"
    match harm:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "bytes":
            path.write_bytes(b"\xff\xfe")

    with pytest.raises(ServiceError, match="DATA_LOSS" if harm == "bytes" else "NOT_FOUND"):
        ask(calls.report(folder.name))
    assert (folder.name in {one.report_id for one in ask(calls.list_reports())}) == (harm == "bytes")
