"""`semiome serve`: the gRPC server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen

if TYPE_CHECKING:
    from service.knowledge import Source


def serve(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: Annotated[
        Path | None, typer.Option(help="TOML file: TLS, tokens, limits; see docs/service.md. Options go before it.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any but a loopback address needs TLS.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="By default 50051; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that answer; by default one.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Prometheus' metrics on this loopback port.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C; takes up new generations, labels and heads by itself."""
    import os

    from service.config import read_config

    settings = read_config(config, host=host, port=port, workers=workers, metrics_port=metrics_port)
    # Before anything that computes is imported. One core answers calls; threads that push it off its core hold up all.
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // settings.workers - 1, 1)))
    from index.workspace import Workspace
    from service import logs
    from service.server import run
    from service.server import serve as serving
    from service.supervisor import supervise

    logs.set_up()
    screen = Screen(as_json=as_json)
    if not settings.signs_in:
        screen.note("whoever can reach this port on this machine may ask anything: --config with [tokens] changes that")

    def ready(address: str, said: dict[str, Any]) -> None:
        values = {**said, "address": address, "pid": os.getpid()}
        screen.result(
            values,
            lambda: screen.say(
                f"serving {said['clips']} clips on {address}: generation {said['generation']}, encoder "
                f"{said['encoder_id']}, head {said['head_id'] or 'none'} (Ctrl-C ends)"
            ),
        )

    if settings.workers > 1:
        supervise(Workspace.at(workspace), settings, ready)
        return

    def ready_alone(address: str, source: Source) -> None:
        ready(address, source.knowledge.summary())

    run(serving(Workspace.at(workspace), settings, ready_alone))
