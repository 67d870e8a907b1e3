"""Callers that cost next to nothing: gRPC's unary calls as bare HTTP/2 frames, from one thread over a few connections.

A gRPC client in Python costs as much of the machine as the server that it loads, so that on two cores a server's
threads find no core free. Here a call is a few bytes written and a frame header or two read. An answer counts when it
has a message and its trailers; what has trailers alone was refused. No flow control is needed: the windows are opened
wide at the start. As HTTP/2 asks of every client, a connection has no more calls under way than its server allows; what
is due beyond that waits here, and its time counts.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field

CONNECTIONS = 8
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WIDE = 2**31 - 1
_MAX_CONCURRENT_STREAMS = 0x3
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Told:
    """What callers saw.

    Attributes:
        answered: seconds of each answered call, all its tries together.
        refused: seconds of each call that was refused at its last try.
        again: how many tries were refused and made again.
        seconds: how long it all took.
    """

    answered: list[float]
    refused: list[float]
    again: int
    seconds: float


def load(
    address: str, method: str, requests: list[bytes], clients: int, seconds: float, rate: float = 0.0, tries: int = 1
) -> Told:
    """Callers who each wait for an answer before the next call; or, with a rate, calls that come on a clock.

    A call that is refused is made again after `_PAUSE_S`, doubled each time, until it has been tried so often: as the
    clients of the package do.
    """
    host, port = address.rsplit(":", 1)
    headers = _request_headers(method, address)
    bodies = [b"\0" + struct.pack(">I", len(request)) + request for request in requests]
    connections = [
        _Connection(host.strip("[]"), int(port), headers, bodies, number, again=not rate, tries=tries)
        for number in range(CONNECTIONS)
    ]
    waiting = selectors.DefaultSelector()
    for connection in connections:
        waiting.register(connection.socket, selectors.EVENT_READ, connection)
        connection.ask(0 if rate else clients // CONNECTIONS)
    due = started = time.perf_counter()
    until, number = started + seconds, 0
    while (now := time.perf_counter()) < until:
        while rate and due <= now:
            connections[number % CONNECTIONS].ask(1, due)
            number, due = number + 1, due + 1 / rate
        for key, _ in waiting.select(max(min(due - now, 0.01), 0) if rate else 0.1):
            key.data.read()
        for connection in connections:
            connection.try_again(now)
    while rate and any(connection.waiting for connection in connections) and time.perf_counter() < until + 30:
        for key, _ in waiting.select(0.01):
            key.data.read()
        for connection in connections:
            connection.try_again(time.perf_counter())
    took = time.perf_counter() - started
    for connection in connections:
        connection.socket.close()
    answered = [one for connection in connections for one in connection.seconds]
    refused = [one for connection in connections for one in connection.refused]
    if rate:  # never answered
        refused += [float("inf") for connection in connections for _ in range(connection.waiting)]
    return Told(answered, refused, sum(connection.tried_again for connection in connections), took)


@dataclass
class _Connection:
    host: str
    port: int
    headers: bytes
    bodies: list[bytes]
    next_body: int
    again: bool
    tries: int
    seconds: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection((self.host, self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wide = struct.pack(">HI", 0x4, _WIDE)  # INITIAL_WINDOW_SIZE
        opened = _frame(_WINDOW, 0, 0, struct.pack(">I", _WIDE - 65_535))
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, wide) + opened)
        self._stream = 1
        self._begun: dict[int, tuple[float, int]] = {}
        self._due: deque[tuple[float, int]] = deque()
        self._later: deque[tuple[float, float, int]] = deque()
        self.tried_again = 0
        self._most = _WIDE
        self._answered: set[int] = set()
        self._left = b""

    @property
    def waiting(self) -> int:
        """How many answers are still to come."""
        return len(self._begun) + len(self._due) + len(self._later)

    def ask(self, calls: int, due: float = 0.0) -> None:
        """Begin a number of calls, due at some time, by default now; or when the server lets them."""
        self._due.extend([(due or time.perf_counter(), 1)] * calls)
        parts = []
        while self._due and len(self._begun) < self._most:
            body = self.bodies[self.next_body % len(self.bodies)]
            self.next_body += CONNECTIONS
            parts.append(_frame(_HEADERS, _END_HEADERS, self._stream, self.headers))
            parts.append(_frame(_DATA, _END_STREAM, self._stream, body))
            self._begun[self._stream] = self._due.popleft()
            self._stream += 2
        self.socket.sendall(b"".join(parts))

    def read(self) -> None:
        """Take what has come, and begin a call for each that has ended."""
        received = self.socket.recv(2**20)
        if not received:
            raise ConnectionError("the server has closed a connection")
        data, at, ended, replies = self._left + received, 0, 0, []
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at < 9 + size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & _WIDE
            if kind == _DATA and size > 5:
                self._answered.add(stream)
            elif (kind == _HEADERS and flags & _END_STREAM) or kind == _RESET:
                begun = self._begun.pop(stream, None)
                if begun is None:  # reset after its trailers: it has ended already
                    at += 9 + size
                    continue
                now = time.perf_counter()
                took = now - begun[0]
                if stream in self._answered:
                    self._answered.discard(stream)
                    self.seconds.append(took)
                elif begun[1] < self.tries:
                    self.tried_again += 1
                    self._later.append((now + _PAUSE_S * 2 ** (begun[1] - 1), begun[0], begun[1] + 1))
                else:
                    self.refused.append(took)
                ended += 1
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                if kind == _SETTINGS:
                    self._set(data[at + 9 : at + 9 + size])
                replies.append(_frame(kind, _ACK, 0, data[at + 9 : at + 9 + size] if kind == _PING else b""))
            elif kind == _GOAWAY:
                raise ConnectionError("the server says good-bye")
            at += 9 + size
        self._left = data[at:]
        if replies:
            self.socket.sendall(b"".join(replies))
        if ended:
            self.ask(ended if self.again else 0)

    def try_again(self, now: float) -> None:
        """Begin again what was refused, and has waited long enough."""
        ready = [one for one in self._later if one[0] <= now]
        if ready:
            self._later = deque(one for one in self._later if one[0] > now)
            self._due.extend((due, number) for _, due, number in ready)
            self.ask(0)

    def _set(self, settings: bytes) -> None:
        for number, value in struct.iter_unpack(">HI", settings):
            if number == _MAX_CONCURRENT_STREAMS:
                self._most = value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _request_headers(method: str, authority: str) -> bytes:
    """HPACK without a table of one's own: indexed where HTTP/2 knows the field, literal elsewhere."""

    def text(value: str) -> bytes:
        data = value.encode()
        return bytes((len(data),)) + data

    return (
        b"\x83\x86"  # POST, http
        + b"\x04"
        + text(method)
        + b"\x01"
        + text(authority)
        + b"\x0f\x10"
        + text("application/grpc")
        + b"\x00"
        + text("te")
        + text("trailers")
    )
