"""`semiome web`: the review page."""

from __future__ import annotations

from pathlib import Path
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

DEFAULT_PORT = 8050


def web(
    server: ServerOption = DEFAULT_SERVER,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but a loopback one needs TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = DEFAULT_PORT,
    name: Annotated[
        list[str] | None, typer.Option(help="Another name that browsers reach the page by; repeat for more.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="The page's certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the review page: seizures beside those they resemble. People sign in with their tokens of the server."""
    from service.calling.connection import Connection
    from service.page.server import PageConfig, run_page
    from service.processes.starting import end_with_parent
    from service.telemetry import logs

    logs.set_up()
    screen = Screen(as_json=as_json)
    connection = Connection(server, ca=ca, certificate=certificate, key=key)
    config = PageConfig(host, port, tuple(name or ()), tls_certificate, tls_key)

    def ready(address: str) -> None:
        screen.result({"page": address}, lambda: screen.say(f"the review page is at {address} (Ctrl-C ends)"))
        if open_page:
            typer.launch(address)

    if until_stdin_ends:
        end_with_parent()
    run_page(connection, config, ready)
