"""Something small from an https address: within a time, however slowly it comes, and from that address alone."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
import urllib.request
from email.message import Message
from typing import IO, Any

_CHUNK_BYTES = 64 * 1024


class _Https(urllib.request.HTTPSHandler):
    """Keeps a second socket of each connection, by which another thread can cut it, from before its handshake on."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until
        self.connected: list[socket.socket] = []

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open an https address."""

        def connect(place: tuple[str, int], *_: Any, **__: Any) -> socket.socket:  # noqa: ANN401  as `socket` has it
            failed: OSError = OSError("no address")
            for kind, how, protocol, _name, address in socket.getaddrinfo(*place, type=socket.SOCK_STREAM):
                left = self._until - time.monotonic()
                if left <= 0:
                    raise TimeoutError("it took too long")
                made = socket.socket(kind, how, protocol)
                made.settimeout(left)
                try:
                    made.connect(address)
                except OSError as error:
                    made.close()
                    failed = error
                    continue
                self.connected.append(socket.socket(fileno=os.dup(made.fileno())))
                return made
            raise failed

        def connection(host: str, **how: Any) -> http.client.HTTPSConnection:  # noqa: ANN401  as http.client has it
            made = http.client.HTTPSConnection(host, **how)
            made._create_connection = connect  # type: ignore[attr-defined]
            return made

        return self.do_open(connection, req, context=self._context)  # type: ignore[attr-defined]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An address is trusted, and not what it points to: that may be plain http, and anybody's answer."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow none."""


def fetched(address: str, most_bytes: int, seconds: float) -> bytes:
    """What an https address answers.

    Args:
        address: is asked, through the proxy of the environment where there is one; no redirect is followed.
        most_bytes: largest answer.
        seconds: for everything together.

    Raises:
        OSError: If it does not answer, or with a status other than 200, or not in time.
        ValueError: If the address is not one of https, or the answer is longer.
    """
    if not address.startswith("https://"):
        raise ValueError("expected an https address")
    https, given_up = _Https(time.monotonic() + seconds), threading.Event()

    def give_up() -> None:
        given_up.set()
        for connection in https.connected:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    data = b""
    try:
        with urllib.request.build_opener(https, _NoRedirects).open(address, timeout=seconds) as answer:
            if answer.status != http.client.OK:
                raise OSError("expected status 200")
            while chunk := answer.read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > most_bytes:
                    raise ValueError("the answer is too long")
    except http.client.HTTPException as error:  # cut by `give_up`, or no HTTP at all
        raise OSError("expected an answer of HTTP") from error
    finally:
        timer.cancel()
        timer.join()
        for connection in https.connected:
            connection.close()
    if given_up.is_set():
        raise TimeoutError("it took too long")
    return data
