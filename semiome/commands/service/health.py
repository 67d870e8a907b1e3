"""`semiome health`: does a server answer calls? For probes and for people."""

from __future__ import annotations

from typing import Annotated

import typer

from semiome.console import Screen
from semiome.options import (
    DEFAULT_SERVER,
    CaOption,
    CertificateOption,
    JsonOption,
    KeyOption,
    ServerOption,
)


def health(
    server: ServerOption = DEFAULT_SERVER,
    service: Annotated[str, typer.Option(help="Full name of one service; by default the whole server.")] = "",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the answer.")] = 5.0,
    alive: Annotated[
        bool,
        typer.Option(
            "--alive", help="Exit with status 0 if it answers at all, even with NOT_SERVING: for liveness probes."
        ),
    ] = False,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether a server answers calls. Exits with status 0 if it says SERVING, and with 4 if not."""
    from service.calling.connection import Connection
    from service.calling.health import SERVING, health_of

    status = health_of(Connection(server, timeout, ca=ca, certificate=certificate, key=key), service)
    screen = Screen(as_json=as_json)
    screen.result({"server": server, "service": service, "status": status}, lambda: screen.say(status))
    if status != SERVING and not alive:
        raise typer.Exit(4)
