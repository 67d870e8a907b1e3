"""Moments and recordings in a real browser: found, played in step, saved as events, and rows for the next training."""

import csv
import json
import time
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from typer.testing import CliRunner

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.folder import install_encoder
from encoder.previews.library import make_previews
from index.feedback.store import FeedbackStore
from index.tables.store import Store
from index.workspace import Workspace
from semiome.app import app
from tests.conftest import install_head, publish_all
from tests.encoder.video.awkward import write
from tests.service.page.test_page import CHROMIUM, NUMBERS, QUIET, films, opened, until
from tests.service.servers import running

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "torch")]

SEIZURE = range(600)
NIGHT = (*range(3000, 3125), *SEIZURE, *range(2000, 3000))  # the seizure is at 5 s of 69
COHORT = (
    ("seizure.mp4", "p1", "seizure", "TLE", "", "", "", ""),
    ("night.mp4", "p2", "night", "", "", "", "", ""),
    ("night.mp4", "p2", "part", "exTLE", "3", "40", "5", "29"),
    ("quiet.mp4", "p3", "quiet", "", "", "", "", ""),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moments")
    write(folder / "seizure.mp4", frames=SEIZURE)
    write(folder / "night.mp4", frames=NIGHT, options={"crf": "33"})
    write(folder / "quiet.mp4", frames=range(1200, 2000))
    with (folder / "manifest.csv").open("w", newline="") as out:
        columns = ("file_name", "patient_id", "video_id", "label", "start_s", "end_s", "onset_s", "seizure_end_s")
        csv.writer(out).writerows([columns, *COHORT])
    return folder


@pytest.fixture(scope="module")
def workspace(folder, tiny_encoder):
    workspace, manifest = Workspace(folder / "workspace"), read_manifest(folder / "manifest.csv")
    install_encoder(tiny_encoder, workspace.encoders)
    encode(manifest.every(2.5), Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    make_previews(manifest, workspace, 2)
    publish_all(workspace, tiny_encoder.encoder_id)
    install_head(workspace, tiny_encoder.encoder_id, width=768)
    return workspace


@pytest.fixture(scope="module")
def address(workspace):
    with running(workspace, "--web-port", "0") as said:
        yield said["page"]


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def moments(chromium, address, asked="video=seizure&in=night", width=1280):
    with opened(chromium, address, width) as page:
        page.goto(f"{address}/#/moments?{asked}")
        expect(page.locator(".hit.picked")).to_be_visible()
        yield page


VOTES = """(() => {
  const drawn = document.querySelector('.recording canvas');
  const canvas = new OffscreenCanvas(drawn.width, drawn.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(drawn, 0, 0);
  const at = (seconds) => context.getImageData((seconds / 69) * canvas.width, 78 * devicePixelRatio, 1, 1).data;
  return at(20)[3] === 255 && at(68)[3] === 0;
})()"""
"""Whether the classes of the clips of the part, which ends at 40 s, are drawn."""
SETTLED = "[...document.querySelectorAll('.players video')].every((v) => v.paused && !v.seeking)"


def test_a_moment_is_found_played_in_step_and_saved_as_an_event_that_becomes_a_row(
    chromium, address, workspace, folder
):
    with moments(chromium, address) as page:
        first = page.locator(".hit").first
        expect(first).to_contain_text("night of p2")
        expect(first).to_contain_text("0:05 to 0:2")
        films(page)
        page.get_by_label("Time in the query").fill("8.4")
        until(page, SETTLED)
        time.sleep(0.3)
        assert page.evaluate(NUMBERS) == [210, 210]  # the same moment of the seizure, five seconds later in its film
        page.locator("main").focus()
        page.keyboard.press("k")
        until(page, "document.querySelector('.players video').currentTime > 9")
        page.keyboard.press("k")
        until(page, SETTLED)

        page.get_by_label("Time in the query").fill("2")
        until(page, SETTLED)
        page.get_by_text("Times, label and signs to save").click()
        page.get_by_role("button", name="Begins here").click()
        assert float(page.locator("input[name=from]").input_value()) == pytest.approx(7.0, abs=0.1)
        page.locator("input[name=until]").fill("29")
        page.locator("form select[name=label]").select_option("exTLE")
        page.locator("input[value=Semiology-versive]").check()
        page.locator("form").get_by_role("button", name="A seizure", exact=True).click()
        expect(page.get_by_text("Saved as a seizure, with your name")).to_be_visible()
        expect(first).to_contain_text("Saved as a seizure.")
        page.get_by_text("2 events").click()
        expect(page.locator(".events li")).to_contain_text(
            ["0:05 to 0:29 a seizure exTLE", "0:07 to 0:29 a seizure, says loopback:local exTLE"]
        )

        page.locator("main").focus()
        page.keyboard.press("n")
        expect(page.locator(".hit").nth(1)).to_have_class("hit picked")
        page.keyboard.press("-")
        expect(page.locator(".hit").nth(1)).to_contain_text("Saved as not a seizure.")

    saved = [one for one in FeedbackStore(workspace).all() if one.event]
    assert [(one.video_id, one.event, one.label, one.semiology, one.author) for one in saved] == [
        ("night", "seizure", "exTLE", ("Semiology-versive",), "loopback:local"),
        ("night", "not_a_seizure", "", (), "loopback:local"),
    ]
    assert (saved[0].start_s, saved[0].end_s) == (pytest.approx(7.0, abs=0.1), 29.0)
    to = folder / "events.csv"
    asked = ["--to", str(to), "--lead", "2", "--tail", "1", "--workspace", str(workspace.root), "--json"]
    done = CliRunner().invoke(app, ["feedback", "rows", str(folder / "manifest.csv"), *asked])
    assert (done.exit_code, json.loads(done.stdout)["background"]) == (0, 1)
    rows = read_manifest(to).rows
    (seizure,) = [row for row in rows if row.onset_s is not None]
    assert (seizure.file_name, seizure.label, seizure.semiology) == ("night.mp4", "exTLE", ("Semiology-versive",))
    assert (seizure.start_s, seizure.seizure_end_s, seizure.end_s) == (pytest.approx(5.0, abs=0.1), 29.0, 30.0)


def test_a_recording_is_seen_in_time_from_all_of_it_to_seconds(chromium, address):
    with opened(chromium, address) as page:
        page.goto(f"{address}/#/recording?video=part&query=seizure")
        span = page.locator(".recording [role=status]")
        expect(span).to_have_text("0:00 to 1:09 of 1:09")
        until(page, VOTES)
        for _ in range(6):
            page.get_by_role("button", name="Closer").click()
        expect(span).to_have_text("0:00 to 0:10 of 1:09")
        page.get_by_role("button", name="All of it").click()
        page.locator(".recording summary").click()
        page.get_by_role("button", name="0:05 to 0:29").click()
        until(
            page, "Math.abs(document.querySelector('video').currentTime - 2) < 0.05"
        )  # of the part, which begins at 3 s
        expect(page.get_by_text("part of patient p2")).to_be_visible()
        slider = page.get_by_role("slider", name="Time in the recording")
        slider.press("End")
        slider.press("ArrowLeft")
        expect(page.get_by_text("night of patient p2")).to_be_visible()  # the part has ended, the file goes on
        until(page, "document.querySelector('video').currentTime > 60")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("view", ["moments?video=seizure", "recording?video=night&query=seizure"])
def test_no_serious_barrier_and_nothing_beyond_the_edge(chromium, address, view, width):
    with opened(chromium, address, width) as page:
        page.goto(f"{address}/#/{view}")
        page.locator(".recording canvas").wait_for()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]

    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]
    assert serious == []
