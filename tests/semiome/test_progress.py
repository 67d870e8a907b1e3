"""How far a command has come, where no terminal is: lines in a log; and what SIGTERM does to it."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from semiome import console
from semiome.console import Log, Screen, Terminated, _Lines, duration
from tests.waiting import PATIENCE_S, until


class Written:
    def __init__(self):
        self.lines, self.now = [], 0.0

    def __call__(self, level, message, shown, **values):
        self.lines.append((level, message, values))

    def clock(self):
        return self.now


def test_a_line_a_minute_and_one_at_the_end():
    written = Written()
    lines = _Lines("Encoding videos", written, written.clock)
    for second in range(601):
        written.now = float(second)
        lines.report(2 + second / 10, 1000, "1.2 clips/s")
    lines.end("interrupted")
    assert len(written.lines) == 11
    assert written.lines[0][1] == "Encoding videos: 8 of 1000 (1%), 6 a minute, about 2 h 45 min left; 1.2 clips/s"
    assert written.lines[-1][1] == "Encoding videos: 62 of 1000 (6%), 6 a minute, interrupted after 10 min; 1.2 clips/s"
    assert written.lines[-1][2] == {
        **{"what": "Encoding videos", "done": 62.0, "total": 1000, "now": "1.2 clips/s", "a_minute": 6.0},
        **{"left_s": None, "state": "interrupted", "took_s": 600.0},
    }


def test_a_line_comes_each_minute_while_nothing_comes_on(monkeypatch):
    written = Written()
    monkeypatch.setattr(console, "_LOOKS_S", 0.01)
    lines = _Lines("Building", written, written.clock)
    with lines.each_minute():
        lines.report(3, 10)
        for minute in (1, 2):
            written.now = 60.0 * minute
            until(lambda minute=minute: len(written.lines) == minute)
    assert [values["done"] for _, _, values in written.lines] == [3.0, 3.0]


def test_what_was_done_before_is_no_speed():
    written = Written()
    lines = _Lines("Pretraining", written, written.clock)
    lines.report(900, 1000)
    written.now = 120.0
    lines.report(910, 1000)
    assert written.lines[0][1] == "Pretraining: 910 of 1000 (91%), 5 a minute, about 18 min left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2 h 0 min"), (200_000, "2 days 7 h")],
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


def test_json_lines_hold_notes_warnings_and_progress(capsys, monkeypatch):
    monkeypatch.setattr(Screen, "log", Log.JSON)
    screen = Screen(as_json=True)
    screen.note("a note")
    screen.warn("a warning")
    with suppress(KeyboardInterrupt), screen.progress("Building") as progress:
        progress(1, 4)
        raise Terminated
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines[:2]] == [("info", "a note"), ("warning", "a warning")]
    assert (lines[2]["done"], lines[2]["total"], lines[2]["state"]) == (1.0, 4, "interrupted")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["at"]) for line in lines)


COMMAND = """
import signal, sys, time, typer
from semiome import __main__, app, console
from semiome.console import Screen

console._ENDS_S = 0.5
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored

@app.app.command()
def long():
    with Screen(as_json=False).progress("Waiting") as progress:
        progress(1, 2)
        print("ready", flush=True)
        {work}

sys.argv = ["semiome", "long"]
__main__.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "work"),
    [
        (signal.SIGTERM, 143, "time.sleep(100)"),
        (signal.SIGINT, 130, "time.sleep(100)"),
        (signal.SIGTERM, 143, "__import__('hashlib').pbkdf2_hmac('sha256', b'a', b'b', 10**9)"),
    ],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM within a library"],
)
def test_a_command_that_is_asked_to_end_says_how_far_it_came(number, code, work):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(work=work)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        until(lambda: process.poll() is not None)
        assert process.wait(PATIENCE_S) == code
        assert "Waiting: 1 of 2 (50%), interrupted after" in process.stderr.read()
