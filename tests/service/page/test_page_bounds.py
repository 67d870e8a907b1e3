"""What strangers can do to the review page and to the log, and what becomes of a page that dies."""

import logging
import os
import signal
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.request import urlopen

from service.telemetry.logs import Repeats
from tests.service.gate.attackers import code, connected, serving
from tests.service.gate.test_bounds import secure
from tests.waiting import PATIENCE_S, until


def page_pid(of):
    """The page's process beside a server."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == of and b"\0web\0" in (path / "cmdline").read_bytes():
                return int(path.name)
    return None


def with_page(access):
    """Settings with TLS, and the page."""
    path = access / "page.toml"
    path.write_text((access / "serve.toml").read_text() + '[page]\nport = 0\nca = "ca.pem"\n')
    return path


def test_a_page_that_is_killed_comes_back_at_its_address(secured):
    with serving(secured, "--web-port", "0") as served:
        page = served.said["page"]
        for _ in range(2):
            first = page_pid(served.pid)
            os.kill(first, signal.SIGKILL)
            until(lambda first=first: page_pid(served.pid) not in {None, first})

            def answers():
                with suppress(OSError), urlopen(page, timeout=PATIENCE_S) as answer:
                    return answer.status == 200

            until(answers)
    assert "the review page ended with -9" in served.log.read_text()


def test_half_handshakes_with_the_page_are_cut(secured, access):
    with serving(secured, "--config", with_page(access)) as served:
        address = served.said["page"].removeprefix("https://").rstrip("/")
        hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        talk = ssl.create_default_context().wrap_bio(*hello, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            talk.do_handshake()
        began = time.monotonic()
        with connected(address) as silent, connected(address) as half:
            half.sendall(hello[1].read())
            for one in (silent, half):
                with suppress(ConnectionResetError):
                    while one.recv(65536):
                        pass
        assert time.monotonic() - began < 10 + 8


def test_bad_handshakes_and_bad_requests_by_the_hundred_are_few_lines(secured, access):
    with serving(secured, "--config", with_page(access)) as served:
        page = served.said["page"].removeprefix("https://").rstrip("/")
        plain = ssl._create_unverified_context()
        for _ in range(300):
            for address in (served.address, page):
                with suppress(OSError), connected(address) as one:
                    one.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    one.recv(100)
            with suppress(OSError), ExitStack() as held:
                wrapped = held.enter_context(plain.wrap_socket(held.enter_context(connected(page))))
                wrapped.sendall(b"\0\1\2\3\r\n\r\n")
                wrapped.recv(100)
        with secure(served.said, access) as channel:
            assert code(channel, "/semiome.v1.CatalogService/GetCounts") == "UNAUTHENTICATED"
    assert len(served.log.read_text().splitlines()) < 450  # of 900, in however many seconds


def test_lines_of_one_kind_are_counted_and_not_written_by_the_thousand():
    now, lines = [0.0], []
    repeats = Repeats(lambda: now[0])
    for number in range(3000):
        now[0] = number / 100
        for message, given in (("refused %s", (number,)), ("another", ())):
            record = logging.LogRecord("a", logging.INFO, "", 0, message, given, None)
            if repeats.filter(record):
                lines.append(record.getMessage())
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) == len(lines) / 2 == 150
    assert refused[50] == "refused 1000 (950 more of these lines were left out before)"
    assert refused[51] == "refused 1001"
