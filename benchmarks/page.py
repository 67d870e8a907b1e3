"""The review page at 100,000 clips, in Debian's Chromium: from a click to the first result, and how the map moves.

    .venv/bin/python benchmarks/page.py [--quick]

Serves a made-up cohort (`cohorts.py`) with its page, clicks clips of several videos, and drags the map. Beside it the
same searches asked over gRPC alone. One JSON object a figure on stdout, words on stderr.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from cohorts import CLIPS_OF_A_VIDEO
from figures import figure, say
from playwright.sync_api import Page, sync_playwright
from service_load import process
from service_store import fill

from index.query import GroupBy, Options, VideoQuery
from index.tables.store import Store
from index.workspace import Workspace
from service.client import Client

QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
CLICK = """async (button) => {
  const list = document.querySelector('.hits');
  const began = performance.now();
  button.click();
  while (document.querySelector('.hits') === list) await new Promise((next) => setTimeout(next, 1));
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="2,000 clips: proves that it runs")
    clips, videos = (2_000, 3) if options.parse_args().quick else (100_000, 20)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch) / "workspace")
        fill(workspace, clips)
        names = sorted(Store(workspace).videos())[:: clips // CLIPS_OF_A_VIDEO // videos][:videos]
        served = ("-m", "semiome", "serve", "-w", str(workspace.root), "--port", "0", "--json", "--web-port", "0")
        with process(*served) as ours, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
            page = browser.new_page()
            searches(page, ours, names, clips)
            the_map(page, ours["page"], clips)
            browser.close()


def searches(page: Page, ours: dict[str, str], names: list[str], clips: int) -> None:
    """Clicks on clips, and the same and whole seizures asked over gRPC."""
    clicked, whole, asked = [], [], []
    with Client(ours["address"]) as client:
        for name in names:
            began = time.perf_counter()
            client.search(VideoQuery(name), 20, Options(group_by=GroupBy.VIDEO, aligned=True))
            asked.append((time.perf_counter() - began) * 1e3)
            page.goto(f"{ours['page']}/#/?video={name}")
            page.locator(".hit").first.wait_for()
            page.wait_for_timeout(500)
            clicked.append(page.locator(".timeline button").nth(3).evaluate(CLICK))
            page.wait_for_timeout(200)
            whole.append(page.get_by_role("button", name="Whole seizure").evaluate(CLICK))
    for what, values in (("a clip", clicked), ("the whole seizure", whole)):
        middle = statistics.median(values)
        say(f"{what}: {min(values):.0f} to {max(values):.0f} ms")
        name = f"click on {what} to the first result, {clips} clips"
        figure(name, middle, "ms", "goal", 300, middle / 300, 1.0, at_most=True)
    say(f"whole seizures, aligned, over gRPC alone: {statistics.median(asked):.0f} ms")


def the_map(page: Page, address: str, clips: int) -> None:
    """How long all points take to draw, and to come."""
    began = time.perf_counter()
    page.goto(f"{address}/#/cohort")
    page.get_by_text(f"{clips} of {clips} clips").wait_for(timeout=120_000)
    took = time.perf_counter() - began
    page.locator("canvas").focus()
    drawn = []
    for key in ("+", "ArrowLeft", "ArrowUp", "-") * 5:
        page.locator("canvas").press(key)
        drawn.append(float(page.locator("canvas").get_attribute("data-draw-ms") or "inf"))
    middle = statistics.median(drawn)
    say(f"all {clips} points were there after {took:.1f} s")
    figure(
        f"map of {clips} points, a frame", middle, "ms", "30 frames a second", 33.3, middle / 33.3, 1.0, at_most=True
    )


if __name__ == "__main__":
    main()
