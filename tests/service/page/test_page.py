"""The review page in a real browser: from a file to a refined search, in step, by keys alone, small and large."""

import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.folder import install_encoder
from encoder.previews.library import make_previews
from index.feedback.store import FeedbackStore
from index.tables.store import Store
from index.workspace import Workspace
from service.processes.starting import page_process
from tests import waiting
from tests.conftest import DATA, install_head, install_signs, publish_all
from tests.service.page.test_web import with_tokens
from tests.service.servers import running

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "torch")]

VIDEOS = DATA / "videos"
SEARCHES = re.compile("/api/RetrievalService/(Search|Recommend)$")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--mute-audio"),
)
COHORT = (
    ("h264_25fps.mp4", "p1", "v1", "TLE", "Semiology-manual;Semiology-dystonic"),
    ("hevc_25fps.mp4", "p2", "v2", "TLE", "Semiology-manual"),
    ("h264_ntsc.mp4", "p3", "v3", "exTLE", "Semiology-hypermotor"),
    ("vp9.webm", "p4", "v4", "exTLE", "Semiology-hypermotor"),
    ("mjpeg.avi", "p5", "v5", "", ""),
    ("h264_rotate90.mp4", "p1", "v6", "TLE", ""),
)


JUDGED = ("Semiology-tonic", "Semiology-versive")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("page")
    for name, *_ in COHORT:
        shutil.copy(VIDEOS / name, folder / name)
    rows = [",".join(row) for row in COHORT]
    columns = "file_name,patient_id,video_id,label,semiology"
    (folder / "manifest.csv").write_text("\n".join([columns, *rows]), encoding="utf-8")
    workspace, manifest = Workspace(folder / "workspace"), read_manifest(folder / "manifest.csv")
    install_encoder(tiny_encoder, workspace.encoders)
    encode(manifest, Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    make_previews(manifest, workspace, 2)
    publish_all(workspace, tiny_encoder.encoder_id)
    install_head(workspace, tiny_encoder.encoder_id, width=768)
    install_signs(workspace, JUDGED, tiny_encoder.encoder_id, width=768)
    (workspace.runs / "ablation").mkdir(parents=True)
    report = "<h1>Ablation</h1><script>parent.document.title = 'x'</script>"
    (workspace.runs / "ablation" / "report.html").write_text(report)
    return workspace


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(workspace):
    with running(workspace, "--web-port", "0") as said:
        yield said["page"]


@contextmanager
def opened(chromium, address, width=1280, height=900):
    """A page in a new browser profile; it must load nothing from elsewhere, break no rule and complain of nothing."""
    context = chromium.new_context(viewport={"width": width, "height": height})
    page, complaints = context.new_page(), []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((address, "blob:")) else complaints.append(r.url))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error(`CSP ${e.violatedDirective}`))"
    )
    page.set_default_timeout(1000 * waiting.PATIENCE_S)
    expect.set_options(timeout=1000 * waiting.PATIENCE_S)
    page.goto(address)
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def page(chromium, address):
    with opened(chromium, address) as page:
        yield page


def take(page, video):
    page.goto(f"{page.url.partition('#')[0]}#/?video={video}")
    expect(page.locator(".hit").first).to_be_visible()


def until(page, script):
    """Waits for an expression to hold; Playwright's own way of waiting would need what the page's policy forbids."""
    waiting.until(lambda: page.evaluate(script), lambda: script)


def field(page, words):
    """The control that a label with these words is of."""
    return page.locator("label", has_text=re.compile(f"^{words}")).locator("select, input, textarea").first


def films(page):
    until(page, "[...document.querySelectorAll('.players video')].every((v) => v.readyState >= 2)")
    return page.locator(".players video")


DRIFT = """async ([seconds]) => {
  const [lead, other] = document.querySelectorAll('.players video');
  const seen = [];
  const until = performance.now() + 1000 * seconds;
  while (performance.now() < until) {
    await new Promise(requestAnimationFrame);
    if (!lead.paused && lead.currentTime > 0.6) seen.push([lead.currentTime, other.currentTime]);
  }
  return seen;
}"""
NUMBERS = """() => [...document.querySelectorAll('.players video')].map((video) => {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  let number = 0;
  for (let row = 0; row < 2; row += 1) for (let column = 0; column < 6; column += 1) {
    const [x, y] = [(column + 0.5) * canvas.width / 6, (row + 0.5) * canvas.height / 6];
    const [r, g, b] = context.getImageData(x, y, 1, 1).data;
    if (r + g + b > 381) number += 2 ** (row * 6 + column);
  }
  return number;
})"""
"""The numbers that both films show at this moment: every frame of the test videos has its own."""


def test_from_a_file_to_a_refined_search(workspace, page):
    page.get_by_label("Or a file that is not stored:").set_input_files(VIDEOS / "exactly_10s.mp4")
    expect(page.get_by_text("5 nearest videos").or_(page.get_by_text("6 nearest videos"))).to_be_visible(
        timeout=1000 * waiting.PATIENCE_S  # the server loads its encoder when the first video comes
    )
    expect(page.get_by_text("An uploaded file")).to_be_visible()
    expect(page.get_by_text(re.compile(r"The head says (TLE|exTLE), with a probability of [01]"))).to_be_visible()
    assert page.locator(".timeline button").first.evaluate("(one) => one.style.getPropertyValue('--shade') !== ''")
    assert films(page).count() == 2

    page.locator(".hit", has_text="v1 of p1").get_by_text("Search from it").click()
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.get_by_text("v1 of patient p1")).to_be_visible()
    assert "p1" not in page.locator(".hit").all_inner_texts()[0].partition("\n")[0]
    before = page.locator(".hit strong").all_inner_texts()
    assert set(before) == {"v2", "v3", "v4", "v5"}
    liked = next(name for name in before[1:] if name not in {"v4", "v5"})  # whose clips all overlap
    page.locator(".hit", has_text=f"{liked} of").get_by_role("button", name="Like this", exact=True).click()
    expect(page.get_by_text("Kept: like this")).to_be_visible()
    page.locator(".hit", has_text=f"{before[0]} of").get_by_role("button", name="Not like this").click()
    expect(page.get_by_text("Kept: not like this")).to_be_visible()
    with page.expect_response(SEARCHES) as answered:
        page.get_by_role("button", name="Search again with what I said").click()
    asked = answered.value.request.post_data_json
    assert [len(asked["positive"]), len(asked["negative"])] == [2, 1]
    expect(page.locator(".hit", has_text=f"{before[0]} of")).to_have_count(0)
    pressed = page.locator(".hit", has_text=f"{liked} of").get_by_role("button", name="Like this", exact=True)
    assert pressed.get_attribute("aria-pressed") == "true"

    kept = FeedbackStore(workspace).all(["v1"])
    judged = {one.video_id: (one.relevance, one.query_video_id, one.author) for one in kept if one.relevance}
    assert judged[liked] == ("relevant", "v1", "loopback:local")
    assert judged[before[0]] == ("not_relevant", "v1", "loopback:local")


def test_both_films_play_in_step(page):
    # Three times at most: a machine that has other work to do draws too few pictures even of films that are in step.
    tried = []
    while len(tried) < 3 and not any(in_step(*one) for one in tried):
        tried.append(played(page))
    assert any(in_step(*one) for one in tried), tried


def played(page):
    """Play for five seconds: (pictures drawn, seconds of film, 95th percentile of the difference in seconds)."""
    take(page, "v1")
    page.locator(".hit", has_text="v2 of p2").get_by_role("button", name="Play beside").click()
    films(page)
    lead, other = np.array(page.evaluate(DRIFT, [5.0])).reshape(-1, 2).T
    # The same pictures in two codecs: their clips belong together one by one.
    return (len(lead), np.ptp(lead), np.quantile(np.abs(lead - other), 0.95)) if len(lead) else (0, 0.0, np.inf)


def in_step(pictures, seconds, drift):
    return pictures > 30 and seconds > 2.0 and drift < 0.08


def test_both_films_show_the_same_moment_where_they_stand_and_step_by_frames(page):
    take(page, "v1")
    page.locator(".hit", has_text="v2 of p2").get_by_role("button", name="Play beside").click()
    films(page)
    page.keyboard.press("k")
    slider = page.get_by_label("Time in the query")
    slider.fill("12.4")
    settled = "[...document.querySelectorAll('.players video')].every((v) => v.paused && !v.seeking)"
    until(page, settled)
    time.sleep(0.3)
    assert page.evaluate(NUMBERS) == [310, 310]
    page.get_by_role("button", name="One frame forward").click()
    until(page, settled)
    time.sleep(0.3)
    assert page.evaluate(NUMBERS) == [311, 311]
    page.locator("body").press(",")
    page.locator("body").press(",")
    until(page, settled)
    time.sleep(0.3)
    assert page.evaluate(NUMBERS) == [309, 309]


def test_by_keyboard_alone(workspace, page):
    page.get_by_placeholder("id of a stored video").focus()
    page.keyboard.type("v1")
    page.keyboard.press("Enter")
    expect(page.locator(".hit").first).to_be_visible()
    films(page)
    page.locator("body").press("n")
    expect(page.locator(".hit").nth(1)).to_have_class("hit picked")
    page.keyboard.press("+")
    expect(page.get_by_text("Kept: like this")).to_be_visible()
    page.locator("main").focus()
    page.keyboard.press("k")
    until(page, "document.querySelector('.players video').currentTime > 0.2")
    page.keyboard.press("k")
    page.keyboard.press(">")
    assert page.get_by_label("Speed").input_value() == "1.5"
    page.locator(".timeline button").first.focus()
    page.keyboard.press("ArrowRight")
    with page.expect_response(SEARCHES):
        page.keyboard.press("Enter")
    assert page.locator(".timeline button[aria-pressed=true]").count() == 1
    with page.expect_response(SEARCHES) as answered:
        page.keyboard.press("Shift+ArrowRight")
    assert len(answered.value.request.post_data_json["positive"]) == 3  # both clips, and what was said to be like them
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_filters_and_groups_ask_anew(page):
    take(page, "v1")
    with page.expect_response(SEARCHES):
        field(page, "Label").select_option("exTLE")
    expect(page.get_by_text("2 nearest videos")).to_be_visible()
    assert set(page.locator(".hit strong").all_inner_texts()) == {"v3", "v4"}
    with page.expect_response(SEARCHES):
        field(page, "Show").select_option("patient")
    expect(page.get_by_text("2 nearest patients")).to_be_visible()
    with page.expect_response(SEARCHES):
        field(page, "Label").select_option("")
    with page.expect_response(SEARCHES):
        field(page, "Sign").select_option("Semiology-tonic")
    expect(page.get_by_text("Nothing stored fits")).to_be_visible()
    field(page, "Sign").select_option("")
    field(page, "Show").select_option("video")
    with page.expect_response(SEARCHES):
        page.get_by_label("other patients only").uncheck()
    expect(page.locator(".hit", has_text="v6 of p1")).to_be_visible()


def test_the_verdict_says_in_words_what_the_service_says(page):
    page.goto(f"{page.url}#/verdict?video=v1")
    expect(page.get_by_text("The head says")).to_be_visible()
    address = page.url.partition("#")[0].rstrip("/")
    answer = page.request.post(
        f"{address}/api/ClassificationService/Classify",
        data={"item": {"video_id": "v1"}},
        headers={"origin": address},
    ).json()
    said = answer["verdict"]

    text = page.locator("main").inner_text()
    assert f"The head says {said['label']}" in text.replace("\n", " ")
    assert "The probabilities are not calibrated." in text
    rows = [" ".join(row.split()) for row in page.locator("table.classes tbody tr").all_inner_texts()]
    assert rows == [f"{one['label']} {one['probability']:.2f} {one['votes']}" for one in said["classes"]]
    assert f"{max(one['votes'] for one in said['classes'])} of 3 clips vote {said['label']}: a margin of" in text
    assert answer["provenance"]["head_id"] in text
    assert "Research use only" in text
    assert page.locator(".timeline button.flips").count() == len(said["flipping_clip_ids"])
    assert page.locator("h3 .label").all_inner_texts() == ["TLE", "exTLE"]


def test_signs_over_time_are_shown_and_played_from(page):
    page.goto(f"{page.url}#/verdict?video=v1")
    table = page.locator("table.signs-in-time")
    expect(table).to_be_visible()
    address = page.url.partition("#")[0].rstrip("/")
    answer = page.request.post(
        f"{address}/api/ClassificationService/GetSigns", data={"video_id": "v1"}, headers={"origin": address}
    ).json()

    rows = table.locator("tbody tr")
    assert [row.split("\t")[0] for row in rows.all_inner_texts()] == ["tonic", "version of eyes, head or trunk"]
    for row, track in zip(rows.all(), answer["tracks"], strict=True):
        assert row.locator("button").count() == len(track["stretches"])
        assert "AUROC 0.80 (0.65 to 0.90) on patients left out; 6 patients show it" in row.inner_text()
    assert "Not judged: dacrystic (crying) (2 patients with it: 5 are needed)." in page.locator("main").inner_text()


def test_a_search_may_ask_for_a_course_of_signs(page):
    take(page, "v1")
    course = field(page, "Signs in time")
    with page.expect_response(SEARCHES) as answered:
        course.fill("tonic or not tonic")
        course.blur()
    assert answered.value.request.post_data_json["options"]["signs"] == "tonic or not tonic"
    expect(page.locator(".hit").first).to_be_visible()


def test_what_is_said_of_a_video_is_kept_shown_as_text_and_taken_back(workspace, page):
    take(page, "v5")
    form = page.locator("form", has_text="This seizure is")
    field(form, "This seizure is").select_option("exTLE")
    form.get_by_label("hyperkinetic").check()
    note = "<img src=x onerror=document.title='x'> left arm"
    form.get_by_label("Note, without names").fill(note)
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved with your name and the time.")).to_be_visible()
    expect(page.get_by_text(note)).to_be_visible()

    (kept,) = [one for one in FeedbackStore(workspace).all(["v5"]) if one.label]
    assert (kept.label, kept.semiology, kept.note) == ("exTLE", ("Semiology-hypermotor",), note)
    assert page.title() != "x"
    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_text("No feedback on this video yet")).to_be_visible()
    assert not [one for one in FeedbackStore(workspace).all(["v5"]) if one.label]


def test_signs_of_a_stretch_are_kept_with_its_times(workspace, page):
    take(page, "v1")
    page.locator(".timeline button").nth(1).click()
    form = page.locator("form", has_text="This seizure is")
    form.get_by_label("versive", exact=False).or_(form.get_by_label("version of eyes, head or trunk")).first.check()
    expect(form.get_by_label("in the whole video")).not_to_be_checked()
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved with your name and the time.")).to_be_visible()
    expect(page.get_by_role("cell", name="0:10 to 0:20")).to_be_visible()

    (kept,) = [one for one in FeedbackStore(workspace).all(["v1"]) if one.semiology]
    assert (kept.semiology, kept.start_s, kept.end_s) == (("Semiology-versive",), 10.0, 20.0)


def test_the_cohort_can_be_coloured_and_a_part_of_the_map_be_listed(workspace, page):
    page.goto(f"{page.url}#/cohort")
    clips = len(Store(workspace).clips(Store(workspace).encoder_ids()[0]).clips)
    expect(page.get_by_text(f"{clips} of {clips} clips, laid out by PCA")).to_be_visible()
    for by in ("patient", "tag", "age", "label"):
        field(page, "Coloured by").select_option(by)
    box = page.locator("canvas").bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()
    expect(
        page.get_by_text(f"{clips} clips of 6 videos of 5 patients: 3 TLE, 2 exTLE, 1 without label")
    ).to_be_visible()
    assert page.locator("table", has_text="Patients").locator("tr", has_text="all").inner_text().split() == [
        "all",
        "5",
        "6",
        str(clips),
    ]


def test_a_report_opens_and_runs_nothing(chromium, address):
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/#/reports")
        page.get_by_role("link", name="ablation").click()
        expect(page.frame_locator("iframe").get_by_text("Ablation")).to_be_visible()
        assert page.title() == "Reports – Semiome review"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("view", ["?video=v1", "verdict?video=v1", "cohort", "reports"])
def test_no_serious_barrier_and_nothing_beyond_the_edge(chromium, address, view, width):
    with opened(chromium, address, width) as page:
        page.goto(f"{address}/#/{view}")
        page.locator("main .panel").first.wait_for()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]

    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]
    assert serious == []


def test_signing_in_and_out_with_a_token(chromium, workspace, tmp_path):
    with with_tokens(workspace, tmp_path / "keys") as (address, token), opened(chromium, address) as page:
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("Check the token")).to_be_visible()
        page.get_by_label("Token").fill(token("eve", "clinician"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("token:eve, clinician")).to_be_visible()
        take(page, "v1")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        assert page.context.cookies() == []


def test_a_reader_sees_searches_and_no_films(chromium, workspace, tmp_path):
    with with_tokens(workspace, tmp_path / "keys") as (address, token), opened(chromium, address) as page:
        page.get_by_label("Token").fill(token("bob", "reader"))
        page.get_by_role("button", name="Sign in").click()
        take(page, "v1")
        assert page.locator(".hit img").count() == 0
        assert page.get_by_role("button", name="Play beside").count() == 0


def test_the_first_run_says_what_to_do(chromium):
    context = chromium.new_context()
    page = context.new_page()
    with page_process("--server", "127.0.0.1:1", "--port", "0") as address:
        page.goto(address)
        expect(page.get_by_text("Nothing to look at yet?")).to_be_visible()
        assert "semiome encode manifest.csv --previews" in page.locator("ol").inner_text()
    context.close()


def test_browsers_are_there():
    assert Path(CHROMIUM).exists(), "install Debian's chromium"
