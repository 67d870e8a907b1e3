"""The review page's server: who gets in, from where, and what a browser may do with what it is given."""

import http.client
import json
import urllib.parse
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from index.errors import InvalidInput
from index.feedback.store import FeedbackStore
from index.workspace import Workspace
from protos import classification_pb2 as classification
from protos import common_pb2 as common
from protos import retrieval_pb2 as retrieval
from service.calling.connection import Connection
from service.config import ServerConfig, read_config, with_page
from service.page import api
from service.page.app import PAGE
from service.page.server import PageConfig
from service.page.sessions import COOKIE, Sessions
from service.processes.starting import page_process
from service.server.credentials import make_access, make_token
from tests.conftest import commit, install_head, install_signs, make_cohort, publish_all
from tests.service.gate.attackers import answering
from tests.service.methods.test_review import FILM, put_preview
from tests.waiting import PATIENCE_S

CLIP = make_cohort()[0][1][0].clip.clip_id


class Browser:
    """What a browser sends, by hand: so that a test can send what no browser would."""

    def __init__(self, address):
        self.host = address.removeprefix("http://")
        self.cookie = ""

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        usual = {"origin": f"http://{self.host}"} if method != "GET" else {}
        if self.cookie:
            usual["cookie"] = f"{COOKIE}={self.cookie}"
        data = json.dumps(body) if isinstance(body, dict | list) else body
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {**usual, **given}.items() if value is not None}
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        if said := answer.headers.get("set-cookie"):
            self.cookie = said.partition(";")[0].partition("=")[2].strip('"')
        return answer

    def json(self, method, path, body=None, **headers):
        answer = self.ask(method, path, body, **headers)
        return answer.status, json.loads(answer.body) if answer.body else None

    def sign_in(self, token=""):
        return self.json("POST", "/api/session", {"token": token})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("web") / "workspace")
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    install_signs(workspace, ("Semiology-tonic",))
    put_preview(workspace, "v1-0")
    (workspace.runs / "ablation").mkdir(parents=True)
    (workspace.runs / "ablation" / "report.html").write_text("<p>report<script>alert(1)</script>")
    return workspace


@pytest.fixture(scope="module")
def page(workspace):
    """The page of a server that asks nobody who they are."""
    with answering(workspace, ServerConfig(port=0)) as server, page_process("--server", server, "--port", "0") as page:
        yield page


@pytest.fixture
def browser(page):
    browser = Browser(page)
    assert browser.sign_in()[1]["identity"] == "loopback:local"
    return browser


@contextmanager
def with_tokens(workspace, folder):
    """A page of a server that wants tokens; gives the page and what makes tokens."""
    make_access(folder, ("localhost", "127.0.0.1"))
    config = read_config(folder / "serve.toml", port=0)
    with (
        answering(workspace, config) as server,
        page_process("--server", server, "--port", "0", "--ca", str(folder / "ca.pem")) as page,
    ):
        yield page, lambda name, role: make_token(folder, name, [role], 1)


@pytest.fixture(scope="module")
def guarded(workspace, tmp_path_factory):
    with with_tokens(workspace, tmp_path_factory.mktemp("access") / "keys") as found:
        yield found


@pytest.fixture
def as_role(guarded):
    page, token = guarded

    def browser(role, name=""):
        browser = Browser(page)
        assert browser.sign_in(token(name or role, role))[0] == 200
        return browser

    return browser


FILMS = ("/preview/v1-0.mp4", "/thumbnails/v1-0/0.jpg")
FILES = ["/api/events.tsv", "/api/label-studio.json", "/report/ablation", *FILMS]
SEARCH, COUNTS = "/api/RetrievalService/Search", "/api/CatalogService/GetCounts"
SAVE, LIST = "/api/ReviewService/SaveFeedback", "/api/ReviewService/ListFeedback"
CALLS = {
    SEARCH: {"query": {"video_id": "v1-0"}},
    "/api/RetrievalService/Recommend": {"positive": [{"video_id": "v1-0"}]},
    "/api/ClassificationService/Classify": {"item": {"video_id": "v1-0"}},
    "/api/ClassificationService/GetSigns": {"video_id": "v1-0"},
    "/api/CatalogService/ListVideos": {},
    "/api/CatalogService/GetVideo": {"video_id": "v1-0"},
    COUNTS: {},
    "/api/AdminService/GetStatus": {},
    "/api/AdminService/ListGenerations": {},
    "/api/ReviewService/GetMap": {},
    LIST: {},
    "/api/ReviewService/ListReports": {},
}
EVERYTHING = [*(("GET", path, None) for path in FILES), *(("POST", path, body) for path, body in CALLS.items())]


@pytest.mark.parametrize(("method", "path", "body"), EVERYTHING)
def test_nothing_is_shown_without_signing_in(guarded, method, path, body):
    browser = Browser(guarded[0])

    assert browser.json(method, path, body)[0] == 401
    browser.cookie = "guessed"
    assert browser.json(method, path, body)[0] == 401


@pytest.mark.parametrize(("method", "path", "body"), EVERYTHING)
def test_everything_is_shown_to_a_person_who_may_see_it(browser, method, path, body):
    assert browser.ask(method, path, body).status == 200


@pytest.mark.parametrize("name", ["CatalogService/GetEmbeddings", "AdminService/ErasePatient", "Other/x", "x/Search"])
def test_what_the_page_does_not_need_can_not_be_called_through_it(browser, name):
    assert browser.json("POST", f"/api/{name}", {})[0] == 404


@pytest.mark.parametrize("token", ["", "garbage", "a.b.c", "x" * 16_000])
def test_a_bad_token_signs_nobody_in(guarded, token):
    browser = Browser(guarded[0])
    status, said = browser.sign_in(token)

    assert (status, said["identity"]) == (200, "")
    assert said["error"]
    assert browser.cookie == ""
    assert browser.json("GET", "/api/me") == (200, {"identity": ""})


@pytest.mark.parametrize("token", ["tökén", "a\nb", "a…", "x" * 20_000, "\0"])
def test_what_is_no_token_is_refused_in_words(guarded, token):
    status, said = Browser(guarded[0]).sign_in(token)

    assert (status, said["code"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("GET", "/thumbnails/v1-0/5000000000.jpg"),
            ("POST", "/api/ClassificationService/Classify?from=x"),
            ("POST", "/api/ClassificationService/Classify?until=9999999999"),
        ),
        *(("POST", "/api/upload?k=1000000000000"), ("POST", "/api/upload?k=-1"), ("POST", "/api/upload?k=x")),
    ],
)
def test_numbers_out_of_bounds_are_refused_in_words(browser, method, path):
    body = {"item": {"video_id": "v1-0"}} if "Classify" in path else b"x"
    status, said = browser.json(method, path, body if method == "POST" else None)

    assert (status, said["code"]) == (400, "INVALID_ARGUMENT")


def test_a_person_is_who_their_token_says_and_signs_out(as_role):
    browser = as_role("clinician", "eve")
    assert browser.json("GET", "/api/me")[1]["identity"] == "token:eve"
    kept = browser.cookie
    assert browser.ask("DELETE", "/api/session").status == 204

    browser.cookie = kept
    assert browser.json("POST", COUNTS, {})[0] == 401


def test_a_session_is_its_owners_alone(as_role):
    eve, bob = as_role("clinician", "eve"), as_role("clinician", "bob")
    status, said = eve.json("POST", SAVE, {"feedback": {"video_id": "v0-1", "label": "TLE"}})
    assert (status, said["feedback"]["author"]) == (200, "token:eve")

    mine, delete = {"feedback_id": said["feedback"]["feedback_id"]}, "/api/ReviewService/DeleteFeedback"
    assert bob.json("POST", delete, mine)[0] == 404
    assert eve.json("POST", delete, mine) == (200, {})
    assert eve.cookie != bob.cookie


@pytest.mark.parametrize("path", [*FILMS, "/report/ablation", "/api/ReviewService/GetMap", LIST])
def test_a_role_that_does_not_see_films_gets_none_here_either(as_role, path):
    calls = path in CALLS
    assert as_role("reader").json("POST" if calls else "GET", path, {} if calls else None)[0] == 403


def test_a_page_that_others_reach_takes_nobody_for_one_of_this_machine(workspace):
    named = ("--port", "0", "--name", "review.example")
    with answering(workspace, ServerConfig(port=0)) as server, page_process("--server", server, *named) as page:
        browser = Browser(page.replace("review.example", "127.0.0.1"))
        status, said = browser.sign_in()

    assert (status, said["identity"]) == (200, "")
    assert "requires a token from every user" in said["error"]


def test_the_cookie_is_for_this_page_alone(page):
    said = Browser(page).ask("POST", "/api/session", {"token": ""}).headers["set-cookie"].lower()

    assert "httponly" in said
    assert "samesite=strict" in said
    assert "domain" not in said


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": None},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=["other origin", "no page's origin", "none", "cross-site", "same-site"],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", SAVE), ("POST", SEARCH), ("POST", "/api/session"), ("DELETE", "/api/session")],
)
def test_what_another_site_sends_is_refused(browser, method, path, headers):
    body = {SAVE: {"feedback": {"video_id": "v0-0", "label": "TLE"}}, SEARCH: CALLS[SEARCH]}.get(path, {"token": ""})
    before = browser.json("POST", LIST, {})

    assert browser.ask(method, path, body, **headers).status == 403
    assert browser.json("POST", LIST, {}) == before


@pytest.mark.parametrize(("method", "path", "body"), EVERYTHING)
def test_another_site_cannot_load_anything(browser, method, path, body):
    assert browser.ask(method, path, body, sec_fetch_site="cross-site").status == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_address_is_refused(browser, host):
    assert browser.ask("POST", COUNTS, {}, host=host).status == 400


def test_every_answer_forbids_loading_from_elsewhere_and_keeping(browser):
    public = [("GET", path, None) for path in ("/", "/page/modules/app.js", "/page/style.css", "/nothing")]
    for method, path, body in (*public, *EVERYTHING):
        headers = browser.ask(method, path, body).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy
        assert "unsafe" not in policy or path.startswith("/report/")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] in {"no-store", "no-cache"}


def test_a_report_runs_no_script(browser):
    assert "sandbox" in browser.ask("GET", "/report/ablation").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "status", "said", "start", "end"),
    [
        (None, 200, None, 0, len(FILM)),
        ("bytes=0-", 206, f"bytes 0-{2**21 - 1}/{len(FILM)}", 0, 2**21),
        ("bytes=5-9", 206, f"bytes 5-9/{len(FILM)}", 5, 10),
        ("bytes=2000000-9999999", 206, f"bytes 2000000-{len(FILM) - 1}/{len(FILM)}", 2_000_000, len(FILM)),
        ("bytes=-7", 206, f"bytes {len(FILM) - 7}-{len(FILM) - 1}/{len(FILM)}", len(FILM) - 7, len(FILM)),
    ],
)
def test_a_player_gets_the_bytes_it_asks_for(browser, asked, status, said, start, end):
    answer = browser.ask("GET", "/preview/v1-0.mp4", range=asked)

    assert (answer.status, answer.headers["content-range"]) == (status, said)
    assert answer.headers["content-type"] == "video/mp4"
    assert int(answer.headers["content-length"]) == end - start
    assert answer.body == FILM[start:end]


@pytest.mark.parametrize(
    "asked", ["bytes=9-5", "bytes=-", "bytes=0-1,5-6", "lines=1-2", "bytes=99999999-", "bytes=" + "9" * 30]
)
def test_no_range_is_refused_and_nothing_breaks(browser, asked):
    assert browser.json("GET", "/preview/v1-0.mp4", range=asked)[0] == 400


@pytest.mark.parametrize(
    "name",
    [
        *("../../key", "..%2f..%2fkey", "%2e%2e/%2e%2e/key", "....//key", "v1-0%00", "/etc/passwd", "%2fetc%2fpasswd"),
        *("v1-0/../../../key", "v1-0.mp4%3f", "http:%2f%2fevil.example%2fx", "v1-0\\..\\..\\key"),
    ],
)
@pytest.mark.parametrize("form", ["/preview/{}.mp4", "/thumbnails/{}/0.jpg", "/report/{}", "/page/{}"])
def test_paths_lead_nowhere(workspace, browser, name, form):
    answer = browser.ask("GET", form.format(name))

    assert answer.status in {400, 404}
    assert workspace.key.read_bytes()[:16] not in answer.body if workspace.key.exists() else True
    assert b"root:" not in answer.body


def test_script_in_notes_and_tags_comes_back_as_text(browser):
    note = "<img src=x onerror=alert(1)> </script><script>alert(2)</script>"
    status, saved = browser.json("POST", SAVE, {"feedback": {"video_id": "v0-0", "note": note}})
    assert (status, saved["feedback"]["note"]) == (200, note)

    answer = browser.ask("POST", LIST, {})
    assert answer.headers["content-type"] == "application/json"
    assert browser.json("POST", SAVE, {"feedback": {"video_id": "v0-0", "semiology": ["<b>"]}})[0] == 400
    assert browser.ask("GET", "/api/events.tsv").headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "null", '"x"', '{"feedback": 5}', "[" * 100_000, '{"feedback":' * 5000 + "1" + "}" * 5000),
        *('{"feedback": {"video_id": 5}}', '{"feedback": {"video_id": "v0-0", "semiology": "x"}}', '{"other": 1}'),
        b"\xff\xfe",
        '{"feedback": {"video_id": "v0-0", "start_seconds": true, "label": "TLE"}}',
        '{"feedback": {"video_id": "v0-0", "end_seconds": ' + "9" * 400 + ', "label": "TLE"}}',
        '{"feedback": {"video_id": "v0-0", "end_seconds": "NaN", "label": "TLE"}}',
        '{"feedback": {"video_id": "v0-0", "relevance": "RELEVANCE_OTHER"}}',
        '{"feedback": {"video_id": "v0-0", "note": "\\ud800"}}',
        '{"feedback": {"video_id": "v0-0", "note": "' + "x" * 300_000 + '"}}',
    ],
)
def test_a_body_that_is_none_is_refused_in_words(browser, body):
    status, said = browser.json("POST", SAVE, body)

    assert (status, said["code"]) == (400, "INVALID_ARGUMENT")
    assert said["error"].startswith("expected")


def test_a_search_finds_what_the_service_finds_and_its_videos_are_looked_up(browser):
    asked = {"query": {"video_id": "v1-0"}, "options": {"k": 4, "group_by": "GROUP_BY_VIDEO", "aligned": True}}
    status, found = browser.json("POST", SEARCH, asked)

    assert status == 200
    assert len(found["hits"]) == 4
    for hit in found["hits"]:
        assert hit["clip"]["patient_id"] != "p1"
        assert hit["matches"]
    ids = [hit["clip"]["video_id"] for hit in found["hits"]]
    known = browser.json("POST", "/api/CatalogService/ListVideos", {"filter": {"video_ids": ids}})[1]["videos"]
    assert {video["video_id"] for video in known} == set(ids)


@pytest.mark.needs("torch")
def test_an_upload_that_is_no_video_is_refused_with_the_reason(browser):
    status, said = browser.json("POST", "/api/upload?k=5", b"no video at all" * 100)

    assert status in {400, 404}  # 404: this workspace has no encoder
    assert said["error"]


def test_a_file_that_can_not_be_made_is_refused_by_its_status(workspace):
    with ExitStack() as stack:
        server = stack.enter_context(ExitStack())
        address = server.enter_context(answering(workspace, ServerConfig(port=0)))
        browser = Browser(stack.enter_context(page_process("--server", address, "--port", "0")))
        browser.sign_in()
        server.close()  # and the page goes on

        for path in ("/api/events.tsv", "/api/label-studio.json"):
            assert browser.json("GET", path)[0] == 503, path


def test_a_page_without_its_server_says_what_to_do(tmp_path):
    with page_process("--server", "127.0.0.1:1", "--port", "0") as page:
        browser = Browser(page)
        assert browser.json("GET", "/api/me") == (200, {"identity": ""})
        status, said = browser.sign_in()
        assert (status, said["code"]) == (503, "UNAVAILABLE")
        assert "semiome serve" in said["error"]
        assert browser.ask("GET", "/").status == 200


def test_feedback_of_the_page_is_in_the_workspace_with_its_author(workspace, browser):
    said = {"video_id": "v3-1", "label": "exTLE", "note": "from the page"}
    saved = browser.json("POST", SAVE, {"feedback": said})[1]["feedback"]

    (kept,) = [one for one in FeedbackStore(workspace).all() if one.feedback_id == saved["feedback_id"]]
    assert (kept.author, kept.patient_id, kept.label) == ("loopback:local", "p3", "exTLE")
    assert not {name for name in saved if "patient" in name}


@pytest.mark.parametrize(
    "message",
    [
        retrieval.SearchRequest(
            query={"video_id": "v"}, options={"k": 3, "group_by": 2, "filter": {"labels": ["TLE"]}}
        ),
        retrieval.SearchResponse(hits=[{"clip": {"clip_id": CLIP, "start_seconds": 10.5}, "similarity": 0.25}]),
        classification.ClassifyResponse(
            verdict={"classes": [{"label": "TLE", "probability": 0.1}], "trained_on_this_patient": False}
        ),
    ],
)
def test_the_pages_json_is_protobufs_own(message):
    assert api.parsed(json.loads(json_format.MessageToJson(message)), type(message)) == message
    assert api.parsed(api.as_json(message), type(message)) == message


def test_an_answer_says_what_its_fields_are_even_where_they_are_empty():
    said = api.as_json(retrieval.SearchResponse(hits=[common.Hit(label="TLE")]))

    assert said["hits"][0] == {"label": "TLE", "similarity": 0.0, "query_clip_id": "", "matches": []}


# How it is set up


async def test_a_session_that_ends_under_a_request_answers_it_to_the_end(workspace):
    with answering(workspace, ServerConfig(port=0)) as server:
        sessions = Sessions(Connection(server))
        name, session = await sessions.begin("")
        sessions.end(name)
        assert sessions.find(name) is None
        assert (await session.client.counts()).total.clips == 60
        await sessions.close()
        with pytest.raises(grpc.aio.UsageError):
            await session.client.counts()


async def test_one_person_has_five_sessions_and_signs_nobody_else_out(workspace, tmp_path):
    make_access(tmp_path / "keys", ("localhost",))
    config = read_config(tmp_path / "keys" / "serve.toml", port=0)
    readers, clinicians = (make_token(tmp_path / "keys", name, ["clinician"], 1) for name in ("reader", "clinician"))
    with answering(workspace, config) as server:
        sessions = Sessions(Connection(server, ca=tmp_path / "keys" / "ca.pem"), open_to_all=False)
        before = descriptors()
        other, _ = await sessions.begin(clinicians)
        names = [(await sessions.begin(readers))[0] for _ in range(40)]
        assert [name for name in names if sessions.find(name)] == names[-5:]
        assert sessions.find(other) is not None
        assert descriptors() - before < 30
        await sessions.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "given",
    [{"host": "0.0.0.0"}, {"host": "example.org"}, {"certificate": PAGE}, {"host": "10.0.0.1"}],
    ids=["everywhere", "a name", "no key", "a network"],
)
def test_a_page_that_others_could_listen_to_is_refused(given):
    with pytest.raises(InvalidInput):
        PageConfig(**given)


def test_a_page_beside_tls_needs_to_know_who_signed():
    tls = {"certificate": "a", "key": "b"}
    with pytest.raises(InvalidInput, match=r"page\.ca"):
        with_page(ServerConfig(tls=tls))
    with pytest.raises(InvalidInput, match=r"page\.ca|semiome web"):
        with_page(ServerConfig(tls={**tls, "client_ca": "c"}))
    assert with_page(ServerConfig(), 81).page.port == 81


def test_the_whole_page_is_small_and_needs_nothing_from_elsewhere():
    files = [path for path in PAGE.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < 300_000
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not any(word in text for word in ("http://", "https://", "innerHTML", "eval(", "document.write"))
        assert urllib.parse.urlparse(path.name).scheme == ""


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 20, "-1", "1.5", "x"])
def test_the_number_of_no_clip_is_an_error_of_who_asks(browser, number):
    assert browser.ask("GET", f"/thumbnails/v0-0/{number}.jpg").status in {400, 404}


@pytest.mark.parametrize("said", ["\u00e9", "a\tb", "Erika Mustermann", "10.0.0.7, x", ""])
def test_whatever_a_proxy_says_of_the_browser_the_page_answers(browser, said):
    assert browser.ask("POST", COUNTS, {}, x_forwarded_for=said.encode("latin-1")).status == 200


@pytest.mark.parametrize("size", [3 * 2**20, 60 * 2**20])
@pytest.mark.parametrize("most", [1024, 2**20])
def test_an_upload_that_is_refused_at_once_is_told_why_however_long_it_is(workspace, most, size):
    config = ServerConfig(port=0, max_upload_bytes=most)
    with answering(workspace, config) as server, page_process("--server", server, "--port", "0") as page:
        browser = Browser(page)
        browser.sign_in()
        status, said = browser.json("POST", "/api/upload?k=3", b"x" * size)

    assert (status, said["error"]) == (400, f"expected a video of 1 to {most} bytes, got {size}")
