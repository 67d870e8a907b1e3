"""How a client reaches a server: address, certificates, token, patience; and what it does when a call fails."""

from __future__ import annotations

import ipaddress
import random
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from index.errors import InvalidInput, ServiceError
from index.records import Provenance
from protos import common_pb2 as common
from service.metadata import BEHALF, DETAILS, SEEN

Answer = TypeVar("Answer")

_AGAIN = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")
"""CANCELLED is what gRPC says of a call that came just as its server began to end."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
UPLOAD_TIMEOUT_S = 3600.0
on_behalf_of: ContextVar[str] = ContextVar("on_behalf_of", default="")
"""Address on whose behalf the next calls are made, where that is not this process."""
_LOST = "Internal error from Core"
"""What grpc.aio says where a call ended while more was sent, instead of the call's own status."""
_MAX_MESSAGE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Answer]):
    """One call, not yet made.

    Attributes:
        method: full name of the method.
        request: its message.
        response: class of the answer.
        read: makes the answer a record.
        repeatable: asking twice changes nothing more than asking once, so that it may be tried again.
    """

    method: str
    request: Message
    response: type[Message]
    read: Callable[..., Answer]
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a server is and who calls it.

    Attributes:
        address: `host:port`.
        timeout_s: longest wait for one answer, tries again included.
        ca: who signs the server's certificate, PEM; with it, or a certificate of one's own, TLS is spoken.
        certificate: one's own, PEM, where the server wants one.
        key: its private key.
        token_file: holds a token; read for each call, so that it can be renewed.
        token: the token itself, for a program that acts for people who gave it theirs.
        server_name: what the server's certificate says, where that is not the address.
        tries: of calls that may be repeated.
    """

    address: str
    timeout_s: float = 30.0
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    token: str = field(default="", repr=False)
    server_name: str = ""
    tries: int = 4
    _seen: _Seen = field(default_factory=lambda: _Seen(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("a client's certificate and its key belong together: give both")
        if (self.token_file is not None or self.token) and not self.encrypted and not self._is_local():
            raise InvalidInput(
                "a token must not go unencrypted over a network: give the CA of the server's certificate"
            )

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.ca is not None or self.certificate is not None

    def options(self) -> list[tuple[str, object]]:
        """Options of a channel."""
        named = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES), ("grpc.enable_retries", 0), *named]

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a channel that speaks TLS.

        Raises:
            InvalidInput: If a file can't be read.
        """
        ca, key, certificate = (_read(path) for path in (self.ca, self.key, self.certificate))
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of the next call: who makes it, and what was seen last.

        Raises:
            InvalidInput: If the token can't be read.
        """
        said = []
        if self.token_file is not None:
            token = (_read(self.token_file) or b"").decode("ascii", "replace").strip()
        else:
            token = self.token
        if token:
            said.append(("authorization", f"Bearer {token}"))
        if seen := self._seen.value:
            said.append((SEEN, seen))
        if behalf := on_behalf_of.get():
            said.append((BEHALF, behalf))
        return tuple(said)

    def note(self, provenance: object, asked_at: float) -> None:
        """What an answer was made with: nothing older may follow. An answer to an older question says nothing new."""
        if isinstance(provenance, Provenance | common.Provenance) and provenance.generation:
            self._seen.note(f"{provenance.generation}/{provenance.table_version}", asked_at)

    def pauses(self, error_of: Callable[[], grpc.RpcError | None], *, repeatable: bool) -> Iterator[float]:
        """Seconds to wait before each further try; ends where trying again is no use."""
        pause = _FIRST_PAUSE_S
        for _ in range(self.tries - 1 if repeatable else 0):
            error = error_of()
            if error is None or error.code().name not in _AGAIN:
                return
            wait = retry_after_s(error)
            if wait is not None and wait > _LONGEST_PAUSE_S:
                return
            yield max(wait or 0.0, pause * random.uniform(0.5, 1.0))  # noqa: S311  so that not all come back at once
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def failure(self, error: grpc.RpcError) -> ServiceError:
        """A failed call as an error of ours."""
        code = error.code().name
        if code == "UNAVAILABLE" and not _status(error):
            return ServiceError(code, f"no server answers at {self.address}: start one with `semiome serve`")
        if code == "INTERNAL" and error.details() == _LOST:
            return ServiceError("UNAVAILABLE", "the server ended the call before all was sent: try again")
        return ServiceError(code, error.details() or "no details")

    def _is_local(self) -> bool:
        host = self.address.rsplit(":", 1)[0].strip("[]")
        if host == "localhost" or self.address.startswith("unix:"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


class _Seen:
    """The generation and table version of the answer to the latest question."""

    def __init__(self) -> None:
        self.value = ""
        self._asked_at = 0.0
        self._lock = threading.Lock()

    def note(self, value: str, asked_at: float) -> None:
        with self._lock:
            if asked_at >= self._asked_at:
                self.value, self._asked_at = value, asked_at


def retry_after_s(error: grpc.RpcError) -> float | None:
    """How long the server says to wait, or None."""
    status = _status(error)
    for part in status.details if status else ():
        if part.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            info = error_details_pb2.RetryInfo()
            part.Unpack(info)
            return float(info.retry_delay.ToTimedelta().total_seconds())
    return None


def _status(error: grpc.RpcError) -> status_pb2.Status | None:
    metadata: Any = error.trailing_metadata()  # pairs, whatever the types say
    for key, value in metadata or ():
        if key == DETAILS:
            return status_pb2.Status.FromString(value)
    return None


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"a file of the connection can't be read ({type(error).__name__})") from None
