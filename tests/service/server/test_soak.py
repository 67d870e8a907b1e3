"""A unit's day in short: searches on a clock while indexes and heads change, films come in, people sign in and judge.

Every call is made once, and none may fail. `make soak` goes on for an hour, and then holds the memory to its figure.
"""

import itertools
import os
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from encoder.model.folder import install_encoder
from index.feedback.statement import Feedback
from index.query import GroupBy, Options, VideoQuery
from service.calling.connection import Connection
from service.client import Client
from service.processes.starting import page_process
from service.roles import Role
from service.server.credentials import make_access, make_token, write_secret
from tests.conftest import DATA, commit, install_head, make_video, publish_all
from tests.service.page.test_web import Browser
from tests.service.servers import running
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.needs("torch")]

SECONDS = float(os.environ.get("SEMIOME_SOAK_S", "180"))
CALLERS, CALLS_PER_S = 5, 50
SWAP_S, UPLOAD_S, SESSION_S, FEEDBACK_S = (max(SECONDS / count, 2.0) for count in (30, 60, 120, 240))
WIDTH = 768
FILM = DATA / "videos" / "short_7s.mp4"
ASKED_BY_THE_PAGE = {
    "CatalogService/ListVideos": {},
    "ClassificationService/Classify": {"item": {"video_id": "v1-0"}},
    "ReviewService/GetMap": {},
    "CatalogService/GetCounts": {},
}


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak:
    """Everything that goes on at once, until it is over."""

    def __init__(self, address, folder, page):
        self.over = threading.Event()
        self.failed, self.latencies, self.done = [], [], dict.fromkeys(("uploads", "sessions", "feedback"), 0)
        self.seen = [[] for _ in range(CALLERS)]
        self.address, self.folder, self.page = address, folder, page
        threads = [threading.Thread(target=self.ask, args=(number,)) for number in range(CALLERS)]
        threads += [threading.Thread(target=one) for one in (self.upload, self.look, self.judge)]
        self.threads = threads

    def client(self, name):
        """Who makes each call once."""
        token = self.folder / f"{name}.token"
        write_secret(token, make_token(self.folder, name, [Role.ADMIN], 1))
        return Client(Connection(self.address, ca=self.folder / "ca.pem", token_file=token, tries=1))

    def each(self, seconds, act, offset=0.0):
        """Act on a clock, whatever waited."""
        started = time.monotonic() + offset
        for number in itertools.count():
            if self.over.wait(max(started + number * seconds - time.monotonic(), 0)):
                return
            try:
                act(number)
            except Exception as error:  # noqa: BLE001  whatever it is, it must not have happened
                self.failed.append(repr(error))

    def ask(self, number):
        """One caller's searches and verdicts, on the clock."""
        with self.client(f"caller {number}") as client:
            grouped = Options(group_by=GroupBy.PATIENT)

            def call(turn):
                began = time.monotonic()
                if turn % 2:
                    client.classify(VideoQuery("v1-1"))
                else:
                    found = client.search(VideoQuery("v0-0"), 5, grouped if turn % 4 else Options())
                    self.seen[number].append(found.provenance)
                self.latencies.append(time.monotonic() - began)

            self.each(CALLERS / CALLS_PER_S, call, number / CALLS_PER_S)

    def upload(self):
        """Films."""
        with self.client("uploads") as client:

            def send(_):
                assert client.search_by_video(FILM, 3).neighbours
                self.done["uploads"] += 1

            self.each(UPLOAD_S, send)

    def look(self):
        """People at the page, of whom some forget to sign out."""

        def session(number):
            browser = Browser(self.page)
            token = make_token(self.folder, f"anna {number % 7}", [Role.CLINICIAN], 1)
            assert browser.sign_in(token)[0] == 200
            for name, body in ASKED_BY_THE_PAGE.items():
                assert browser.ask("POST", f"/api/{name}", body).status == 200, name
            if number % 2:
                assert browser.ask("DELETE", "/api/session").status in {200, 204}
            self.done["sessions"] += 1

        self.each(SESSION_S, session)

    def judge(self):
        """Feedback."""
        with self.client("bert") as client:

            def say(number):
                client.save_feedback(Feedback(f"v{number % 5}-0", "", label="TLE", note=f"note {number}"))
                assert len(list(client.feedback())) == number + 1
                self.done["feedback"] += 1

            self.each(FEEDBACK_S, say)


def slope_share_of_an_hour(values):
    """By what share of itself memory grows in an hour: the median of all slopes (Theil, Sen), which no peak moves."""
    times, memory = np.array(values, float).T
    first, second = np.triu_indices(len(times), 1)
    slopes = (memory[second] - memory[first]) / (times[second] - times[first])
    return float(np.median(slopes)) * 3600 / float(np.median(memory))


def test_nothing_fails_and_nothing_piles_up_while_everything_changes(workspace, tiny_encoder, tmp_path):
    encoder = tiny_encoder.encoder_id
    install_encoder(tiny_encoder, workspace.encoders)
    random = np.random.default_rng(0)
    cohort = [make_video(patient, video, 4, random, WIDTH) for patient in range(5) for video in range(3)]
    commit(workspace, cohort, encoder)
    publish_all(workspace, encoder)
    install_head(workspace, encoder, width=WIDTH)
    folder = tmp_path / "access"
    make_access(folder, ["localhost", "127.0.0.1"])
    files, memory, swaps = [], [], 0
    with ExitStack() as stack:
        said = stack.enter_context(running(workspace, "--config", str(folder / "serve.toml")))
        options = ("--server", said["address"], "--port", "0", "--ca", str(folder / "ca.pem"))
        page = stack.enter_context(page_process(*options))
        soak = Soak(said["address"], folder, page)
        for thread in soak.threads:
            thread.start()
        started = next_swap = time.monotonic()
        try:
            while time.monotonic() < started + SECONDS:
                if time.monotonic() >= next_swap:
                    publish_all(workspace, encoder)
                    install_head(workspace, encoder, swaps, WIDTH)
                    swaps += 1
                    next_swap += SWAP_S
                time.sleep(0.5)
                files.append(open_files(said["pid"]))
                memory.append((time.monotonic() - started, resident_bytes(said["pid"])))
        finally:
            soak.over.set()
            for thread in soak.threads:
                thread.join(PATIENCE_S)

    calls = len(soak.latencies)
    p50, p99 = (float(np.quantile(soak.latencies, share)) * 1000 for share in (0.5, 0.99))
    settled = [one for one in memory if one[0] > 10 * SWAP_S]
    grown, half = slope_share_of_an_hour(settled[:: max(len(settled) // 1000, 1)]), len(files) // 2
    print(  # noqa: T201  the figures of a long run
        f"\n{SECONDS:.0f} s: {calls} calls, {calls / SECONDS:.1f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {soak.done}, "
        f"{swaps} swaps, failed {len(soak.failed)}; memory {statistics.median(m for _, m in settled) / 2**20:.0f} MiB, "
        f"{100 * grown:+.2f} % an hour; files {min(files[:half])} and {min(files[half:])} at the least"
    )
    assert soak.failed == []
    assert calls > 0.9 * CALLS_PER_S * SECONDS
    assert min(soak.done.values()) > 5
    for mine in soak.seen:
        generations = [made.generation for made in mine]
        assert generations == sorted(generations)
        assert len(set(generations)) > swaps / 3
        assert len({made.head_id for made in mine}) > swaps / 3
    # While a generation is taken over, both are open for a moment: what piles up is seen in the lowest counts.
    assert min(files[half:]) <= min(files[:half]) + 6
    assert settled[-1][1] < 1.1 * settled[0][1]
    if SECONDS >= 3600:
        assert grown < 0.01
