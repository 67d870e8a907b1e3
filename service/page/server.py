"""The review page's server: where it listens, over what, and until when."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from index.errors import InvalidInput, StateError
from service.calling.connection import Connection
from service.page.app import make_app
from service.page.http import HEADERS_S, bounded_http
from service.processes.descriptors import raise_soft_limit
from service.server.tls import PageCertificate


@dataclass(frozen=True, slots=True)
class PageConfig:
    """Where the page is.

    Attributes:
        host: address to listen on; any but a loopback address needs a certificate.
        port: 0 takes a free one.
        names: that browsers reach it by, beside the address.
        certificate: PEM; with it TLS is spoken.
        key: its private key.
    """

    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("the page's certificate and its key belong together: give both")
        try:
            loopback = self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            raise InvalidInput("expected an address to listen on, such as 127.0.0.1 or 0.0.0.0") from None
        if not loopback and self.certificate is None:
            raise InvalidInput("expected a loopback address such as 127.0.0.1 without a certificate for the page")

    @property
    def is_local(self) -> bool:
        """Whether only who is on this machine reaches it: no other address, and no name that a proxy gives it."""
        return not self.names and (self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names that a request may be for."""
        return ("localhost", "127.0.0.1", "[::1]", "::1", self.host, *self.names)


_TICKS_A_SECOND = 10
"""Ticks of uvicorn, which does some things once a tick."""


class _Loop(uvloop.Loop):
    """An event loop in which a TLS handshake has no longer than a request's headers."""

    async def create_server(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401  as asyncio has it
        if named.get("ssl") is not None:
            named["ssl_handshake_timeout"] = HEADERS_S
        return await super().create_server(*given, **named)


class _Server(uvicorn.Server):
    """Says when it listens, and picks up a certificate that was renewed."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._certificate: PageCertificate | None = None

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401  as uvicorn has it
        await super().startup(sockets)
        if self.config.ssl is not None:
            certificate, key = Path(str(self.config.ssl_certfile)), Path(str(self.config.ssl_keyfile))
            self._certificate = PageCertificate(self.config.ssl, certificate, key)
        if self.servers:
            self._on_ready(int(self.servers[0].sockets[0].getsockname()[1]))

    async def on_tick(self, counter: int) -> bool:
        if self._certificate is not None and counter % _TICKS_A_SECOND == 0:
            self._certificate.renew()
        return await super().on_tick(counter)


def run_page(connection: Connection, config: PageConfig, on_ready: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Args:
        connection: to the gRPC server; without a token.
        config: where to listen.
        on_ready: told the page's address.

    Raises:
        StateError: If the port is taken, or the certificate can't be used.
    """
    raise_soft_limit()
    scheme = "http" if config.certificate is None else "https"
    shown = config.names[0] if config.names else config.host
    app = make_app(connection, config.hosts, encrypted=scheme == "https", open_to_all=config.is_local)
    settings = uvicorn.Config(
        app,
        http=bounded_http(),
        host=config.host,
        port=config.port,
        ssl_certfile=config.certificate,
        ssl_keyfile=config.key,
        log_config=None,
        access_log=False,  # it would name videos
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(settings, lambda port: on_ready(f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"))
    try:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(server.serve())
    except SystemExit:
        raise StateError(f"port {config.port} of {config.host} is taken: is another page running?") from None
    except OSError as error:
        raise StateError(f"the page's certificate can't be used ({type(error).__name__})") from None
