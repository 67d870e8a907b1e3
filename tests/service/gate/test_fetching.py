"""Keys from an identity provider that is slow, chatty, or points elsewhere."""

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest

from service.config import TokenConfig
from service.gate.fetching import fetched
from service.gate.tokens import Tokens
from tests.waiting import PATIENCE_S

SECONDS = 1.0


@contextmanager
def provider(access, answer, *, speaks_tls=True):
    """A server on this machine; `answer` is given each connection. Yields its address and what has connected."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(access / "server.pem", access / "server.key")
    seen, over = [], threading.Event()

    def serve(listener):
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            seen.append(connection)
            try:
                with context.wrap_socket(connection, server_side=True) if speaks_tls else connection as stream:
                    answer(stream, over)
            except OSError:
                continue  # the client has gone, as it should

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}/keys", seen
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


def says(head, body=b""):
    def answer(stream, over):
        stream.recv(4096)
        stream.sendall(head + b"\r\nconnection: close\r\n\r\n" + body)

    return answer


def drips(start, drop):
    """Begins as an answer does, and goes on a few bytes at a time: within any timeout for one read."""

    def answer(stream, over):
        stream.sendall(start)
        while not over.wait(0.05):
            stream.sendall(drop)

    return answer


@pytest.fixture(autouse=True)
def trusted(access, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(access / "ca.pem"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_short_answer_is_given_whole(access):
    with provider(access, says(b"HTTP/1.1 200 OK\r\ncontent-length: 5", b"hello")) as (address, _):
        assert fetched(address, 5, PATIENCE_S) == b"hello"
        with pytest.raises(ValueError, match="too long"):
            fetched(address, 4, PATIENCE_S)


@pytest.mark.parametrize(
    ("start", "drop", "speaks_tls"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", True),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"y", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\ny\r\n", True),
        (b"", b"", True),
        (b"\x16\x03\x03\x40\x00", b"\x00", False),
    ],
    ids=["headers", "one header", "body", "chunks", "nothing", "handshake"],
)
def test_an_answer_that_drips_is_given_up_in_time(access, start, drop, speaks_tls):
    with provider(access, drips(start, drop), speaks_tls=speaks_tls) as (address, _):
        before, began = set(threading.enumerate()), time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011  however it is cut
            fetched(address, 1000_000, SECONDS)
        assert SECONDS * 0.9 < time.monotonic() - began < SECONDS + 2
        assert set(threading.enumerate()) - before == set()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(access, code):
    head = f"HTTP/1.1 {code} Elsewhere\r\ncontent-length: 0\r\nlocation: "
    with provider(access, says(b"HTTP/1.1 200 OK\r\ncontent-length: 2", b"{}")) as (elsewhere, seen):
        for target in (elsewhere, elsewhere.replace("https", "http"), "file:///etc/hostname"):
            with (
                provider(access, says((head + target).encode())) as (address, _),
                pytest.raises(OSError, match="HTTP Error"),
            ):
                fetched(address, 100, PATIENCE_S)
        assert seen == []


@pytest.mark.parametrize(
    "address", ["http://localhost/keys", "file:///etc/hostname", "ftp://localhost/keys", "/etc/hostname"]
)
def test_only_https_is_asked(address):
    with pytest.raises(ValueError, match="https"):
        fetched(address, 100, SECONDS)


def test_a_provider_that_is_not_trusted_or_not_there_gives_nothing(access, monkeypatch):
    with provider(access, says(b"HTTP/1.1 200 OK\r\ncontent-length: 2", b"{}")) as (address, _):
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            fetched(address, 100, PATIENCE_S)
    with pytest.raises(OSError, match="refused"):
        fetched(address, 100, PATIENCE_S)


def test_keys_come_from_a_provider(access):
    keys = (access / "jwks.json").read_bytes()
    token = (access / "reader.token").read_text().strip()
    with provider(access, says(b"HTTP/1.1 200 OK", keys)) as (address, seen):
        tokens = Tokens(TokenConfig(jwks=address, issuer="semiome", audience="semiome"))
        assert tokens.caller(token).identity == "token:some reader"
        assert len(seen) == 1
    assert json.loads(keys)["keys"]


def test_several_addresses_share_the_time(access, monkeypatch):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:  # takes no more than one, and answers none
        place = full.getsockname()
        held = [socket.socket() for _ in range(3)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(place)
        found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", place)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [found] * 3)
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011  however it is cut
            fetched("https://localhost/keys", 100, SECONDS)
        assert time.monotonic() - began < SECONDS + 2
        for one in held:
            one.close()
