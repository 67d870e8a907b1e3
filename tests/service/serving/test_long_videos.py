"""A recording of more than a day: in parts over the API and on the page. And a search among the very first patient."""

import json

import numpy as np
import pytest
from playwright.sync_api import expect

from index.query import VideoQuery
from index.workspace import Workspace
from service.aio_client import AioClient
from service.calling import requests as calls
from service.client import Client
from service.config import ServerConfig
from service.errors import ServiceError
from service.processes.starting import page_process
from service.records import MAX_CLIPS
from tests.conftest import commit, install_head, make_video, publish_all
from tests.service.gate.attackers import answering
from tests.service.page.test_page import chromium, opened, until  # noqa: F401  a fixture
from tests.service.page.test_web import Browser, put_preview

pytestmark = pytest.mark.needs("torch")

CLIPS = MAX_CLIPS + 25
"""28 hours."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace, random = Workspace(tmp_path_factory.mktemp("long") / "workspace"), np.random.default_rng(7)
    commit(workspace, [make_video(0, 0, CLIPS, random, clip_count=CLIPS)])
    publish_all(workspace)
    install_head(workspace)
    put_preview(workspace, "v0-0")
    return workspace


@pytest.fixture(scope="module")
def server(workspace):
    with answering(workspace, ServerConfig(port=0)) as server:
        yield server


@pytest.fixture(scope="module")
def page(server):
    with page_process("--server", server, "--port", "0") as page:
        yield page


def test_clients_get_all_clips_in_as_many_parts_as_it_takes(server):
    with Client(server) as client:
        video = client.video("v0-0")
        assert [clip.clip_index for clip in video.clips] == list(range(CLIPS))
        part = client.ask(calls.video("v0-0", 360, 10))
        assert part.clips == video.clips[360:370]
        assert client.ask(calls.video("v0-0", CLIPS + 1)).clips == ()
        with pytest.raises(ServiceError, match="expected parts of 1 to 10000 clips, got 10001"):
            client.ask(calls.video("v0-0", 0, MAX_CLIPS + 1))


def test_a_day_as_a_query_is_refused_and_as_a_question_of_class_answered(server):
    with Client(server) as client:
        with pytest.raises(ServiceError, match="more than 360 clips can't be searched for as a whole"):
            client.search(VideoQuery("v0-0"), 3)
        judged = client.classify(VideoQuery("v0-0")).judged
        assert sum(judged.verdict.votes) == CLIPS


async def test_a_client_that_awaits_gets_them_too(server):
    async with AioClient(server) as client:
        assert len((await client.video("v0-0")).clips) == CLIPS


def test_the_page_is_sent_the_part_that_it_shows(page):
    browser = Browser(page)
    browser.sign_in()
    video, verdict = "/api/CatalogService/GetVideo", "/api/ClassificationService/Classify"
    status, found = browser.json("POST", video, {"video_id": "v0-0", "first_clip": 720, "page_size": 720})
    assert (status, [clip["clip_index"] for clip in found["clips"]]) == (200, list(range(720, 1440)))
    status, answer = browser.json("POST", f"{verdict}?from=720&until=1440", {"item": {"video_id": "v0-0"}})
    judged = answer["verdict"]
    assert (status, [one["clip"]["clip_index"] for one in judged["clips"]]) == (200, list(range(720, 1440)))
    assert sum(one["votes"] for one in judged["classes"]) == CLIPS
    assert max(len(json.dumps(found)), len(json.dumps(answer))) < 500_000
    assert browser.json("POST", video, {"video_id": "v0-0", "page_size": 10_001})[0] == 400
    assert browser.json("POST", f"{verdict}?from=-1", {"item": {"video_id": "v0-0"}})[0] == 400


@pytest.mark.slow
@pytest.mark.needs("chromium")
def test_a_day_is_looked_through_part_by_part(chromium, page):  # noqa: F811
    with opened(chromium, page) as shown:
        shown.goto(f"{page}#/?video=v0-0")
        clips = shown.locator(".timeline button")
        expect(clips).to_have_count(720)
        expect(shown.get_by_text(f"0:00 to 2:00:00, clips 1 to 720 of {CLIPS}")).to_be_visible()
        expect(shown.get_by_role("button", name="Earlier")).to_be_disabled()
        expect(shown.get_by_text("too long to be searched for as a whole")).to_be_visible()
        shown.get_by_role("button", name="Later").click()
        expect(clips.first).to_have_text("2:00:00")
        until(shown, "document.querySelector('.timeline button').style.getPropertyValue('--shade') !== ''")
        clips.nth(3).click()
        expect(shown.get_by_text("chosen: 2:00:30 to 2:00:40")).to_be_visible()
        expect(shown.get_by_text("Only one patient is stored")).to_be_visible()
        shown.get_by_role("button", name="Earlier").click()
        expect(clips.first).to_have_text("0:00")
