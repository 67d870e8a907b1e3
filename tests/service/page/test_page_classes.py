"""Three classes of one's own, from the commands that set and learn them to the page that shows them."""

import json
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from index.feedback.store import FeedbackStore
from index.workspace import Workspace
from tests import forge
from tests.service.page.test_page import CHROMIUM, QUIET, VIDEOS, field, opened, take
from tests.service.servers import running
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium", "torch")]

CLASSES = ("tonic", "clonic", "hyperkinetic")
NAMES = ("h264_25fps.mp4", "mjpeg.avi", "vp9.webm", "hevc_25fps.mp4", "h264_gray.mp4", "h264_vfr.mp4", "h264_ntsc.mp4")


def semiome(*arguments, cwd, code=0):
    """The JSON that a command prints."""
    done = forge.run(*arguments, "--json", cwd=cwd)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort labelled with other classes than the paper's, encoded, learned and indexed by commands alone."""
    folder = tmp_path_factory.mktemp("motor")
    rows = ["file_name,patient_id,video_id,label"]
    for number, name in enumerate(NAMES):
        shutil.copy(VIDEOS / name, folder / name)
        rows.append(f"{name},p{number},v{number},{(*CLASSES, *CLASSES, '')[number]}")
    (folder / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    refused = semiome("encode", "manifest.csv", cwd=folder, code=2)["error"]
    assert "column label: 'tonic' is not TLE or exTLE or empty" in refused["message"]
    assert semiome("classes", *CLASSES, cwd=folder) == {"names": list(CLASSES), "positive": None}
    semiome("manifest", "check", "manifest.csv", cwd=folder)
    semiome("encode", "manifest.csv", "--previews", cwd=folder)
    semiome("head", "train", cwd=folder)
    semiome("index", "build", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with running(Workspace(folder / "workspace"), "--web-port", "0") as said:
        yield said


@pytest.fixture
def page(address):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        with opened(browser, address["page"]) as page:
            yield page
        browser.close()


def test_commands_learn_judge_and_answer_with_them(folder, address):
    found = semiome("evaluate", "--folds", "2", "--seeds", "1", "--epochs", "2", cwd=folder)
    for row in found["rows"].values():
        assert [len(given) for given in row["confusion"]] == [3, 3, 3]
        assert (row["f1"], sum(map(sum, row["confusion"]))) == (None, 6)
    shown = forge.run("evaluate", "--folds", "2", "--seeds", "1", "--epochs", "1", cwd=folder).stdout
    assert "F1 " not in shown.replace("macro F1", "")

    server = ("--server", address["address"])
    (verdict,) = semiome("classify", "--video", "v0", *server, cwd=folder)["verdicts"]
    assert list(verdict["probabilities"]) == list(verdict["votes"]) == list(CLASSES)
    assert sum(verdict["probabilities"].values()) == pytest.approx(1)
    assert (verdict["label"] in CLASSES, verdict["trained_on_this_patient"]) == (True, True)
    hits = semiome("search", "--video", "v0", "--label", "clonic", "--group-by", "video", *server, cwd=folder)
    assert {one["video_id"] for one in hits["neighbours"]} == {"v1", "v4"}
    refused = semiome("search", "--video", "v0", "--label", "TLE", *server, cwd=folder, code=2)["error"]
    assert "expected one of tonic, clonic, hyperkinetic or nothing" in refused["message"]


def test_the_page_shows_every_class(folder, page):
    take(page, "v0")
    assert field(page, "Label").locator("option").all_inner_texts() == ["any", *CLASSES]
    form = page.locator("form", has_text="This seizure is")
    field(form, "This seizure is").select_option("hyperkinetic")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved with your name and the time.")).to_be_visible()
    assert [one.label for one in FeedbackStore(Workspace(folder / "workspace")).all(["v0"])] == ["hyperkinetic"]

    page.goto(f"{page.url.partition('#')[0]}#/verdict?video=v1")
    expect(page.get_by_role("heading", name="Which class: tonic, clonic or hyperkinetic?")).to_be_visible()
    expect(page.get_by_text("The head says")).to_be_visible()
    rows = page.locator("table.classes tbody tr")
    assert [text.split()[0] for text in rows.all_inner_texts()] == list(CLASSES)
    assert sum(float(text.split()[1]) for text in rows.all_inner_texts()) == pytest.approx(1, abs=0.02)
    assert page.locator("h3 .label").all_inner_texts() == list(CLASSES)
    colours = page.locator("h3 .label").evaluate_all("all => all.map((one) => getComputedStyle(one).backgroundColor)")
    assert len(set(colours)) == 3
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()

    page.goto(f"{page.url.partition('#')[0]}#/cohort")
    expect(page.locator(".legend")).to_contain_text("no label")
    assert page.locator(".legend li").all_inner_texts() == [*CLASSES, "no label"]


def test_a_head_of_other_classes_is_not_asked(folder, address):
    """Last in this file: the classes are other ones from here on."""
    semiome("classes", *CLASSES, "other", cwd=folder)

    asked = ("classify", "--video", "v1", "--server", address["address"])
    until(lambda: forge.run(*asked, cwd=folder).returncode)
    (refused,) = semiome(*asked, cwd=folder, code=3)["verdicts"]
    assert refused["code"] == "FAILED_PRECONDITION"
    assert "tells tonic, clonic, hyperkinetic apart, and this workspace has the classes" in refused["message"]
    assert "semiome head train" in refused["message"]
