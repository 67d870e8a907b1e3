"""`semiome serve`: the gRPC server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from contextlib import ExitStack

    from index.workspace import Workspace
    from service.config import ServerConfig
    from service.serving.watcher import StateWatcher


def serve(
    address: WorkspaceOption = DEFAULT_WORKSPACE,
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
    web: Annotated[bool, typer.Option("--web", help="Serve the review page too, on port 8050.")] = False,
    web_port: Annotated[int | None, typer.Option(min=0, max=65535, help="The review page on this port.")] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait-for-index", help="Where nothing is published yet, listen and say NOT_SERVING until it is."
        ),
    ] = False,
    until_stdin_ends: Annotated[bool, typer.Option("--until-stdin-ends", hidden=True)] = False,
    as_json: JsonOption = False,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C; picks up new generations, labels and heads by itself."""
    import os
    from contextlib import ExitStack

    from index.processors import keep_few_heaps, usable_cores
    from service.config import read_config, with_page

    settings = read_config(config, host=host, port=port, workers=workers, metrics_port=metrics_port)
    if web or web_port is not None:
        settings = with_page(settings, web_port)
    keep_few_heaps()
    # Before anything that computes is imported. One core answers calls; threads that push it off its core hold up all.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // settings.workers - 1, 1)))
    from index.workspace import Workspace
    from service.processes.starting import end_with_parent, page_beside
    from service.server.worker import run
    from service.server.worker import serve as serving
    from service.telemetry import logs

    logs.set_up()
    if until_stdin_ends:
        end_with_parent()
    screen = Screen(as_json=as_json)
    if not settings.signs_in:
        screen.note("any user of this machine has full access: give --config with [tokens] to change that")

    page = ExitStack()

    def ready(address: str, said: dict[str, Any]) -> None:
        values = {**said, "address": address, "pid": os.getpid()}
        if settings.page is not None:
            page.close()  # of a server that waited for its index, which may have been at another address
            values["page"] = page.enter_context(page_beside(settings, address))

        def show() -> None:
            screen.say(
                f"serving {said['clips']} clips on {address}: generation {said['generation']}, encoder "
                f"{said['encoder_id']}, head {said['head_id'] or 'none'} (Ctrl-C ends)"
            )
            if "page" in values:
                screen.say(f"the review page is at {values['page']}")

        screen.result(values, show)

    def ready_alone(address: str, watcher: StateWatcher) -> None:
        ready(address, watcher.state.summary())

    with page:
        if (wait or settings.page is not None) and not _has_index(Workspace.at(address), settings, page, screen):
            return
        if settings.workers > 1:
            from service.server.supervisor import supervise

            supervise(Workspace.at(address), settings, ready)
        else:
            run(serving(Workspace.at(address), settings, ready_alone))


def _has_index(workspace: Workspace, settings: ServerConfig, page: ExitStack, screen: Screen) -> bool:
    """Whether there is something to serve; waits for it, and shows a page that says what to do. False at SIGTERM."""
    from service.processes.starting import page_beside
    from service.server.standby import has_index, wait_for_index

    if has_index(workspace):
        return True

    def listening(address: str) -> None:
        told = "nothing is published yet: waiting for `semiome index build`"
        if settings.page is not None:
            told += f"; it says what to do at {page.enter_context(page_beside(settings, address))}"
        screen.note(told)

    return wait_for_index(workspace, settings, listening)
