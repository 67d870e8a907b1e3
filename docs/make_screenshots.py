"""Make the pictures of the review page in `docs/` from the workspace that `semiome demo` leaves.

    python docs/make_screenshots.py [WORKSPACE]
    python docs/make_screenshots.py WORKSPACE SEIZURE RECORDING

The second form takes those of moments and of a recording, of a workspace with previews of both, such as can be made
from what `benchmarks/finding.py` draws. It serves the workspace on free ports and looks at it in Debian's Chromium.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from service.processes.starting import server_process

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1280, 860
QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def main() -> None:
    """Take the four of single seizures, or the two of recordings."""
    workspace = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    with server_process(workspace, "--web-port", "0") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        address = server["page"]
        page.goto(address)
        if len(sys.argv) > 2:
            moments(page, address, sys.argv[2])
            recording(page, address, *sys.argv[2:4])
        else:
            video = page.locator(".videos td a").nth(10).inner_text()
            search(page, address, video)
            verdict(page, address, video)
            cohort(page, address)
            feedback(page, address, video)
        browser.close()


def moments(page: Page, address: str, seizure: str) -> None:
    """A moment beside the seizure that was asked about, and its recording."""
    page.goto(f"{address}/#/moments?video={seizure}&own=1")
    page.locator(".recording canvas").wait_for()
    time.sleep(4)
    save(page, "review-moments.png")


def recording(page: Page, address: str, seizure: str, video: str) -> None:
    """A recording in time, compared with a seizure."""
    page.goto(f"{address}/#/recording?video={video}&query={seizure}")
    page.locator(".recording canvas").wait_for()
    time.sleep(4)
    save(page, "review-recording.png")


def search(page: Page, address: str, video: str) -> None:
    """A seizure beside the one that it resembles most."""
    page.goto(f"{address}/#/?video={video}")
    page.locator(".hit img").first.wait_for()
    page.get_by_label("Time in the query").fill("6")
    time.sleep(2)
    save(page, "review-search.png")


def verdict(page: Page, address: str, video: str) -> None:
    """What speaks for the verdict."""
    page.goto(f"{address}/#/verdict?video={video}")
    page.locator(".hit img").last.wait_for()
    page.locator("video").evaluate("(film) => { film.currentTime = 6; }")
    time.sleep(2)
    save(page, "review-verdict.png")


def cohort(page: Page, address: str) -> None:
    """A part of the map, listed."""
    page.goto(f"{address}/#/cohort")
    page.get_by_text("laid out by").wait_for()
    box = page.locator("canvas").bounding_box() or {"x": 0, "y": 0, "width": 1, "height": 1}
    corners = [(0.08, 0.3), (0.4, 0.25), (0.45, 0.6), (0.35, 0.85), (0.1, 0.8), (0.08, 0.31)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()
    time.sleep(1)
    save(page, "review-cohort.png", whole=True)


def feedback(page: Page, address: str, video: str) -> None:
    """What a reviewer says of a seizure."""
    page.goto(f"{address}/#/?video={video}")
    page.locator(".hit").first.wait_for()
    page.locator(".timeline button").nth(1).click()
    form = page.locator("form", has_text="This seizure is")
    form.wait_for()
    form.get_by_label("oroalimentary").check()
    form.get_by_label("dystonic").first.check()
    form.get_by_label("Note, without names").fill("left hand first")
    form.scroll_into_view_if_needed()
    time.sleep(1)
    save(page, "review-feedback.png")


def save(page: Page, name: str, *, whole: bool = False) -> None:
    """Write a PNG of few colours, a quarter of the size."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    picture.quantize(192, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    sys.stdout.write(f"{name}: {(HERE / name).stat().st_size // 1024} KB\n")


if __name__ == "__main__":
    main()
